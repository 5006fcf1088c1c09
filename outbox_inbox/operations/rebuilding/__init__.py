"""Rebuild a read model from its stream: what the command calls."""

from .pages import REBUILD_SUFFIX
from .rebuild import Rebuilt, find_read_model, rebuild, rebuild_lag

__all__ = ["REBUILD_SUFFIX", "Rebuilt", "find_read_model", "rebuild", "rebuild_lag"]
