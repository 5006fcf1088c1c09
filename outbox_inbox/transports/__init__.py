"""Transports carry contracts from one context to another; only the settings choose them.

No context names its transport in code, so a context can move out by configuration.
"""

from collections.abc import Iterator
from functools import cache

from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from outbox_inbox.conf import settings
from outbox_inbox.contexts import contexts
from outbox_inbox.exceptions import SettingsError, TransportUnavailable

from .base import OutgoingMessage, Published, ReceivedMessage, Transport

__all__ = [
    "OutgoingMessage",
    "Published",
    "ReceivedMessage",
    "Transport",
    "transport",
    "transport_problems",
]


@cache
def transport(alias: str) -> Transport:
    """Return the transport of an alias in OUTBOX_INBOX["TRANSPORTS"]; one instance in each process.

    Raises:
        SettingsError: the alias is unknown, its BACKEND is not a transport, or an option is wrong.
    """
    found, path = settings().transports.get(alias), 'OUTBOX_INBOX["TRANSPORTS"]'
    if found is None:
        known = ", ".join(sorted(settings().transports))
        raise SettingsError(f"{path} has no {alias!r}; it has: {known}")
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


def _clear_transports(*, setting: str, **_: object) -> None:
    if setting == "OUTBOX_INBOX":
        transport.cache_clear()


setting_changed.connect(_clear_transports, dispatch_uid="outbox_inbox.transports")
