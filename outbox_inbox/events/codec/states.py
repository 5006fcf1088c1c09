"""Turn the state of an aggregate into JSON text and back, exactly or not at all.

As with events, every value is checked by its exact type while it is written. Unlike an event, a
state may be a mutable dataclass, and so may the dataclasses in its fields.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from hashlib import sha256
from typing import Any

from outbox_inbox.exceptions import InvalidSnapshot, UnreadableMessage

from .field_types import Refused
from .json_text import load_object
from .shapes import Layout, state_layout

_known: dict[type, tuple[Layout, str]] = {}


def encode_state(state: object) -> str:
    """Return a state as canonical JSON, which `decode_state` turns into an equal one.

    Raises:
        InvalidSnapshot: values that would not come back as they are, or one mutable object in two
            places, which would come back as two; names the field of each.
        TypeError: its class has fields of a type that cannot be stored.
    """
    layout, _ = _known_layout(type(state))
    problems = _undeclared(state)
    if not problems:
        try:
            text = layout.record.dump(state)
            # A snapshot is taken so rarely that each one is read back: nothing is left to a proof.
            if not (problems := layout.changes(state, text) or _shared(state)):
                return text
        except (Refused, RecursionError) as error:
            problems = layout.refusals(state, error, "it is nested too deeply, or contains itself")
    raise InvalidSnapshot(layout.name, problems)


def decode_state(cls: type, data: str) -> Any:
    """Return the state that a stored text holds.

    Raises:
        UnreadableMessage: the text is not an acceptable JSON object, or does not fit the class.
        TypeError: the class has fields of a type that cannot be stored.
    """
    layout, _ = _known_layout(cls)
    try:
        load_object(data)
        return layout.read_stored(data)
    except RecursionError as error:
        raise UnreadableMessage("the data is nested too deeply") from error


def fingerprint(cls: type) -> str:
    """Return what changes with the name of a class, with its fields and with their types.

    Raises:
        TypeError: it is not a dataclass, or has fields that cannot be stored; names all of them.
    """
    return _known_layout(cls)[1]


def _known_layout(cls: type) -> tuple[Layout, str]:
    if cls in _known:
        return _known[cls]
    if not dataclasses.is_dataclass(cls):
        raise TypeError(
            f"{cls.__qualname__} is not a dataclass: snapshots are made of its fields. Make it "
            "one, or do without snapshots (snapshot_every=None)"
        )
    layout = state_layout(cls)
    schema = layout.adapter.json_schema()
    text = f"{cls.__module__}.{cls.__qualname__} {json.dumps(schema, sort_keys=True, default=str)}"
    _known[cls] = layout, sha256(text.encode()).hexdigest()[:16]
    return _known[cls]


def _undeclared(state: object) -> list[str]:
    """Return the attributes that are not fields: a snapshot would lose them."""
    cls = type(state)
    fields = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    return [
        f"{name}: an attribute that is not a field of {cls.__qualname__} would be lost"
        for name in getattr(state, "__dict__", ())
        if name not in fields and not isinstance(getattr(cls, name, None), cached_property)
    ]


def _shared(state: object) -> list[str]:
    """Return the places of each mutable object that is in several of them.

    They are equal when they come back, and differ after the next event that changes one of them.
    """
    places: dict[int, str] = {}
    problems = []

    def visit(value: Any, place: str) -> None:
        parts = _parts(value, place)
        if parts is None:
            return
        if not _is_frozen(value):
            if id(value) in places:
                problems.append(
                    f"{place}: the same {type(value).__name__} as {places[id(value)]}, and it would "
                    "come back as another one"
                )
                return
            places[id(value)] = place
        for part in parts:
            visit(*part)

    visit(state, "")
    return problems


def _is_frozen(value: object) -> bool:
    parameters = getattr(value, "__dataclass_params__", None)
    return isinstance(value, tuple | frozenset) or (parameters is not None and parameters.frozen)


def _parts(value: Any, place: str) -> Iterable[tuple[Any, str]] | None:
    """Return what an object holds, and the place of each; None: it is a single value."""
    if isinstance(value, Mapping):
        return [(each, f"{place}[{key!r}]") for key, each in value.items()]
    if isinstance(value, list | tuple | set | frozenset):
        return [(each, f"{place}[{number}]") for number, each in enumerate(value)]
    if dataclasses.is_dataclass(value):
        prefix = f"{place}." if place else ""
        fields = dataclasses.fields(value)
        return [(getattr(value, each.name), f"{prefix}{each.name}") for each in fields]
    return None
