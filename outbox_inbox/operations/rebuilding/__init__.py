"""Rebuild a read model from its stream: what the command calls."""

from .building import Rebuilt, find, lag, rebuild

__all__ = ["Rebuilt", "find", "lag", "rebuild"]
