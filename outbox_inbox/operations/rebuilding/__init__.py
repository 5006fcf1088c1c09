"""Rebuild a read model from its stream: what the command calls."""

from .building import Rebuilt, find, lag, rebuild
from .copying import BESIDE

__all__ = ["BESIDE", "Rebuilt", "find", "lag", "rebuild"]
