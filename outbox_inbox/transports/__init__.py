"""Transports carry contracts from one context to another; only the settings choose them.

No context names its transport in code, so a context can move out by configuration.
"""

import threading
from collections.abc import Iterator
from typing import ClassVar

from django.core.signals import setting_changed
from django.utils.module_loading import import_string
from django.views.decorators.debug import sensitive_variables

from outbox_inbox.conf import settings
from outbox_inbox.conf.section import shown
from outbox_inbox.contexts import contexts
from outbox_inbox.exceptions import SettingsError, TransportUnavailable

from .base import OutgoingMessage, Published, ReceivedMessage, Transport

__all__ = [
    "OutgoingMessage",
    "Published",
    "ReceivedMessage",
    "Transport",
    "forget_transports",
    "transport",
    "transport_problems",
]


class _Made(threading.local):
    """The transports of one thread."""

    def __init__(self) -> None:
        self.by_alias: dict[str, Transport] = {}
        self.generation = 0


class _Process:
    """What the threads of this process share."""

    by_alias: ClassVar[dict[str, Transport]] = {}
    generation: ClassVar[int] = 0
    lock = threading.RLock()


_of_thread = _Made()


def transport(alias: str) -> Transport:
    """Return the transport of an alias in OUTBOX_INBOX["TRANSPORTS"].

    Each thread has an instance of its own, unless the transport serves all (``thread_safe``): in a
    process with several workers, the confirmations of one would be taken for those of another.

    Raises:
        SettingsError: the alias is unknown, its BACKEND is not a transport, or an option is wrong.
    """
    if _of_thread.generation != _Process.generation:
        _of_thread.by_alias, _of_thread.generation = {}, _Process.generation
    found = _of_thread.by_alias.get(alias)
    if found is None:
        with _Process.lock:
            found = _Process.by_alias.get(alias) or _new_transport(alias)
            if found.thread_safe:
                _Process.by_alias[alias] = found
        _of_thread.by_alias[alias] = found
    return found


@sensitive_variables()
def _new_transport(alias: str) -> Transport:
    found, path = settings().transports.get(alias), 'OUTBOX_INBOX["TRANSPORTS"]'
    if found is None:
        known = ", ".join(sorted(settings().transports))
        raise SettingsError(f"{path} has no alias that is {shown(alias)}; it has: {known}")
    try:
        backend = import_string(found.backend)
    except ImportError as error:
        text = f"{path}[{alias!r}]: cannot import {found.backend!r}: {error}"
        raise SettingsError(text) from error
    if not (isinstance(backend, type) and issubclass(backend, Transport)):
        raise SettingsError(f"{path}[{alias!r}]: {found.backend!r} is not a subclass of Transport")
    return backend(found)


def transport_problems() -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the transports that the contexts use, as (alias, sentence).

    Asks their servers; one that cannot be reached is a problem as well.

    Raises:
        SettingsError: a transport cannot be created.
    """
    for alias in sorted({context.transport for context in contexts()}):
        try:
            for problem in transport(alias).problems():
                yield alias, problem
        except TransportUnavailable as error:
            yield alias, str(error)


def forget_transports() -> None:
    """Have every thread create its transports anew, as a new process does."""
    with _Process.lock:
        _Process.by_alias.clear()
        _Process.generation += 1
    _of_thread.by_alias = {}  # so that connections are closed at once; those of other threads follow


def _clear_transports(*, setting: str, **_: object) -> None:
    if setting == "OUTBOX_INBOX":
        forget_transports()


setting_changed.connect(_clear_transports, dispatch_uid="outbox_inbox.transports")
