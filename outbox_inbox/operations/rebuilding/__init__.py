"""Rebuild a read model from its stream: what the command calls."""

from .building import BESIDE, Rebuilt, find, lag, rebuild

__all__ = ["BESIDE", "Rebuilt", "find", "lag", "rebuild"]
