"""Processes with other settings beside this one, within this process: one does something after the other."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest.mock import patch

from django.test.utils import override_settings

from outbox_inbox.queues import layouts

T = TypeVar("T")


class SettingsApart:
    """A process with settings of its own, and with what it remembers of those in force."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self._seen: dict[tuple[str, str], Any] = {}
        self._reported: set[Any] = set()
        self._stored: set[tuple[str, str]] = set()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Be that process for the block."""
        with (
            override_settings(OUTBOX_INBOX=self._settings),
            patch.object(layouts, "_seen", self._seen),
            patch.object(layouts, "_reported", self._reported),
            patch.object(layouts, "_stored", self._stored),
        ):
            yield

    def do(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Do something in that process."""
        with self.running():
            return function(*arguments, **options)
