"""Aggregates of one kind: where their streams are, how they are loaded, and how they append.

An append names the version that was loaded: without it, two decisions on one state would both be
stored, and the second would contradict the first.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from django.db import transaction

from outbox_inbox import contexts, streams
from outbox_inbox.contexts import Context, context_of
from outbox_inbox.events import codec
from outbox_inbox.events.envelope import Envelope
from outbox_inbox.exceptions import InvalidEvent, InvalidSnapshot
from outbox_inbox.models import Snapshot
from outbox_inbox.outbox import record
from outbox_inbox.outbox.rows import Event

from . import snapshots

K = TypeVar("K", bound=str | int | UUID)
S = TypeVar("S")

_REMEMBERED = 1_000  # streams whose snapshot was refused

Fold = Callable[[S, Any], S | None]


class Repository(Generic[K, S]):
    """The aggregates of one kind: where their streams are, and how events become a state.

    Arguments:
        context: the label of the context whose streams these are.
        start: makes the state of an aggregate without events, from its id; usually its class.
        fold: takes a state and the next event. It returns the new state, or None if it has
            changed the one it was given; usually a method of the class, such as ``Order.apply``.
        stream: the name of a stream with ``{}`` where the id goes, such as ``"order-{}"``.
        snapshot_every: take a snapshot when so many events have been folded since the last one;
            the state is then a dataclass, of the types that events have, mutable or not. A state
            that cannot be stored goes on without a snapshot, with the signal ``snapshot_refused``. Default
            None: no snapshots, which is fast enough for some hundred events.
        snapshot_version: the schema version of the snapshots, from 1. Raise it when `fold` makes
            another state of the same events: older snapshots are then ignored. After a change of
            the fields they are ignored without it.

    Raises:
        ValueError: ``stream`` does not have one ``{}``, or a number is not a whole one from 1.
    """

    def __init__(
        self,
        context: str,
        *,
        start: Callable[[K], S],
        fold: Fold[S],
        stream: str,
        snapshot_every: int | None = None,
        snapshot_version: int = 1,
    ) -> None:
        if stream.count("{}") != 1:
            raise ValueError(f"stream is a name with one {{}} for the id, not {stream!r}")
        for name, number in (("every", snapshot_every or 1), ("version", snapshot_version)):
            if type(number) is not int or not 1 <= number < 2**31:
                raise ValueError(f"snapshot_{name} is a whole number from 1, not {number!r}")
        self.context = context
        self.start = start
        self.fold = fold
        self.snapshot_every = snapshot_every
        self.snapshot_version = snapshot_version
        self._template = stream
        self._refused: dict[str, int] = {}  # stream -> its version when a snapshot was refused

    def stream(self, key: K) -> str:
        """Return the name of the stream of an aggregate."""
        if isinstance(key, bool) or not isinstance(key, str | int | UUID):
            raise TypeError(f"an aggregate's id is a str, an int or a UUID, not {key!r}")
        return self._template.replace("{}", str(key))

    def atomic(self) -> AbstractContextManager[None]:
        """Return ``transaction.atomic()`` on the current database of the context."""
        return transaction.atomic(using=contexts.get_context(self.context).database)

    def load(self, key: K) -> "Loaded[S]":
        """Return the current state of an aggregate; one without events is at version 0.

        Works in and outside of a transaction, and writes nothing.

        Raises:
            NotAContext: there is no such context.
            TypeError: the id is not a str, an int or a UUID; or snapshots are wanted, and the class
                has fields that cannot be stored.
            UnreadableMessage: a stored event has no class in this process, or does not fit it.
        """
        context, stream = contexts.get_context(self.context), self.stream(key)
        state, taken_at = self.start(key), 0
        cls = type(state)
        if self.snapshot_every is not None:
            found = snapshots.find_snapshot(context, stream, cls, self.snapshot_version)
            if found is not None:
                state, taken_at = found
        version, last = taken_at, None
        for event, version, last in streams.events(context, stream, taken_at):  # noqa: B007
            state = fold_event(self.fold, state, event)
        due = None
        if last and self.snapshot_every and version - taken_at >= self.snapshot_every:
            # As text, before the caller gets the state: a decision may change it without an event,
            # and that change would come back with every load from the snapshot.
            payload = self._encode(context, stream, version, cls, state)
            if payload is not None:
                due = Snapshot(
                    context=context.label,
                    stream=stream,
                    version=version,
                    event_id=last,
                    schema_version=self.snapshot_version,
                    layout=codec.fingerprint(cls),
                    payload=payload,
                )
        return Loaded(state=state, version=version, stream=stream, _home=self, _due=due)

    def _encode(
        self, context: Context, stream: str, version: int, cls: type, state: S
    ) -> str | None:
        """Return a state as the text of a snapshot; None: it cannot be stored, which is announced."""
        refused = self._refused.get(stream)
        if refused is not None and version - refused < (self.snapshot_every or 0):
            return None
        try:
            return _encode_state(cls, state)
        except Exception as error:  # noqa: BLE001  a snapshot is a shortcut: the stream has everything
            # Tried and announced again after as many events: not with every load.
            while len(self._refused) >= _REMEMBERED:
                self._refused.pop(next(iter(self._refused)), None)
            self._refused[stream] = version
            snapshots.announce_refused(context, stream, version, error)
            return None


@dataclass(slots=True, kw_only=True, eq=False)
class Loaded(Generic[S]):
    """An aggregate as it was loaded.

    Fields:
        state: the result of folding its events.
        version: the number of its events; the version that the next `append` expects.
        stream: the name of its stream.
    """

    state: S
    version: int
    stream: str
    _home: Repository[Any, S] = field(repr=False)
    _due: Snapshot | None = field(default=None, repr=False)

    def append(
        self,
        *events: Event,
        key: str | None = None,
        at: datetime | None = None,
        headers: Mapping[str, str] | None = None,
        message_id: UUID | None = None,
    ) -> list[Envelope]:
        """Record events at the version that was loaded, and fold them into the state.

        The same as ``record(*events, stream=…, expected_version=…)`` in the open transaction, with
        its arguments and errors. Several appends in one transaction continue each other; after a
        rollback, load again. A snapshot that is due is stored with the first append.

        Raises:
            ConcurrencyError: the stream has other events since: load again, and decide again.
            InvalidEvent: a value cannot be stored, or an event is of another context.
        """
        if not events:
            return []
        context = contexts.get_context(self._home.context)
        strangers = [type(each).__name__ for each in events if context_of(each) is not context]
        if strangers:
            raise InvalidEvent(
                f"{self.stream}: append()",
                [f"{name} is not an event of {context.label!r}" for name in strangers],
            )
        envelopes = record(
            *events,
            stream=self.stream,
            expected_version=self.version,
            key=key,
            at=at,
            headers=headers,
            message_id=message_id,
        )
        if self._due is not None:
            snapshots.save_snapshot(context, self._due)
            self._due = None
        for event in events:
            self.state = fold_event(self._home.fold, self.state, event)
        self.version += len(events)
        return envelopes


def fold_event(fold: Fold[S], state: S, event: Event) -> S:
    """Return the state after the next event.

    Raises:
        TypeError: the function returned None, and the state is immutable: the event was lost.
    """
    after = fold(state, event)
    if after is not None:
        return after
    if _is_frozen(state):
        raise TypeError(
            f"fold returned None for {type(event).__name__}, and {type(state).__qualname__} is "
            "immutable: return the new state, or the same one where the event does not matter"
        )
    return state


def _encode_state(cls: type, state: object) -> str:
    if type(state) is not cls:
        found = type(state).__qualname__
        problem = f"fold returned a {found}; a snapshot is of the class of `start`"
        raise InvalidSnapshot(cls.__name__, [problem])
    return codec.encode_state(state)


def _is_frozen(state: object) -> bool:
    parameters = getattr(type(state), "__dataclass_params__", None)
    frozen = parameters is not None and parameters.frozen
    return frozen or isinstance(state, tuple | str | bytes | int | float | frozenset)
