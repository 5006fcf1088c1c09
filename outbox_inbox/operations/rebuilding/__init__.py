"""Rebuild a read model from its stream: what the command calls."""

from .pages import BESIDE
from .rebuild import Rebuilt, find, lag, rebuild

__all__ = ["BESIDE", "Rebuilt", "find", "lag", "rebuild"]
