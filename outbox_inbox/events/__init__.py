"""Events: facts of a context's own (domain events), and contracts (integration events).

A subclass becomes a frozen, keyword-only dataclass, with its wire name, version and key as
arguments of the class statement. These are kept beside the fields, not among them, so a field may
be called `name`, `version`, `key` or `kind`.
"""

import dataclasses
import re
from collections.abc import Iterable
from enum import Enum
from typing import Any, ClassVar, Final, Literal, dataclass_transform

from outbox_inbox.conf.section import did_you_mean

EventKind = Literal["domain", "integration"]

NAME_LENGTH: Final = 200

_CONTRACT_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")
_DOMAIN_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")


@dataclasses.dataclass(frozen=True, slots=True)
class Meta:
    """What the class statement of an event says besides its fields.

    `name` is None when none was given: a domain event is then stored as ``<label>.<ClassName>``,
    a contract is refused by the system checks. `key` has the names of the key's fields.
    """

    kind: EventKind
    name: str | None
    version: int
    key: tuple[str, ...]


@dataclass_transform(
    frozen_default=True, kw_only_default=True, field_specifiers=(dataclasses.field,)
)
class _Event:
    """What both kinds of events have in common: a dataclass with a `Meta`."""

    __outbox_inbox_meta__: ClassVar[Meta]

    def __init_subclass__(
        cls,
        *,
        name: str | None = None,
        version: int = 1,
        key: str | list[str] | tuple[str, ...] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        if _Event in cls.__bases__:
            return  # DomainEvent and IntegrationEvent have no fields and are not events themselves.
        if issubclass(cls, DomainEvent) and issubclass(cls, IntegrationEvent):
            raise TypeError(f"{cls.__qualname__} is either a DomainEvent or an IntegrationEvent")
        kind: EventKind = "domain" if issubclass(cls, DomainEvent) else "integration"
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)
        cls.__outbox_inbox_meta__ = Meta(
            kind, _checked_name(cls, kind, name), checked_version(cls, version), _key(cls, key)
        )


class DomainEvent(_Event):
    """A fact of one context, in its own language; it never leaves the context.

    Name and version belong to one class; fields and key are inherited. Instances are built
    without validation, as of any dataclass: ``record()`` refuses what cannot be stored.

    Class arguments, all optional:
        name: the stored type name; default ``<label of the context>.<ClassName>``.
        version: from 1, raised when the fields change; older messages go through upcasters.
        key: the field, or fields, whose values order the messages: what has the same key is
            handled in commit order. Default: the key of the base class. Without any there is no
            order; ``key=()`` removes an inherited one.

    Raises:
        TypeError, ValueError: a class argument is wrong; in the class statement itself.
    """


class IntegrationEvent(_Event):
    """A contract: a fact that is published to other contexts; all they may know of this one.

    Takes the class arguments of `DomainEvent`. Here ``name`` is required, dotted and in lower
    case (``ordering.order_placed``). A subscriber imports this class, or declares a view of its
    own with the same name and the fields that it needs.
    """


EventClass = type[DomainEvent] | type[IntegrationEvent]


def meta(event: object) -> Meta:
    """Return the `Meta` of an event class, or of the class of an event.

    Raises:
        TypeError: it is neither.
    """
    found = getattr(event, "__outbox_inbox_meta__", None)
    if not isinstance(found, Meta):
        cls = event if isinstance(event, type) else type(event)
        raise TypeError(
            f"{cls.__qualname__} is not an event: make it a subclass of DomainEvent or "
            "IntegrationEvent"
        )
    return found


def is_contract_name(name: str) -> bool:
    """Return whether a name is fit for a contract: dotted, lower case, at most 200 characters."""
    return len(name) <= NAME_LENGTH and _CONTRACT_NAME.fullmatch(name) is not None


def key_of(event: _Event) -> str | None:
    """Return the key that orders this event, or None when it has no order."""
    return key_from(event, meta(event).key)


def key_from(event: object, names: Iterable[str]) -> str | None:
    """Return the key that these fields of an event make.

    One field gives the text of its value (of an Enum: its value's); several are joined by ``/``,
    with ``%`` and ``/`` inside of them escaped as in a URL, so that different values never make
    the same key. None in any of them, or no field, means no key. Nothing is validated here.
    """
    values = [getattr(event, name) for name in names]
    if not values or None in values:
        return None
    texts = [str(value.value if isinstance(value, Enum) else value) for value in values]
    if len(texts) == 1:
        return texts[0]
    return "/".join(text.replace("%", "%25").replace("/", "%2F") for text in texts)


def _checked_name(cls: type[_Event], kind: EventKind, name: str | None) -> str | None:
    if name is None:
        return None
    if not isinstance(name, str):
        raise TypeError(f"{cls.__qualname__}: name is a str, not {type(name).__name__}")
    # A contract's name is judged by the system checks, with those of all the other contexts.
    if kind == "domain" and not (len(name) <= NAME_LENGTH and _DOMAIN_NAME.fullmatch(name)):
        raise ValueError(
            f"{cls.__qualname__}: name={name!r}; expected letters, digits and underscores, with "
            f"single dots between them, at most {NAME_LENGTH} characters"
        )
    return name


def checked_version(cls: type, version: int) -> int:
    """Return the version of a class; raises TypeError or ValueError unless it is fit."""
    if type(version) is not int:
        raise TypeError(f"{cls.__qualname__}: version is an int, not {type(version).__name__}")
    if not 1 <= version <= 32_767:
        raise ValueError(f"{cls.__qualname__}: version is 1 to 32767, not {version}")
    return version


def _key(cls: type[_Event], key: str | list[str] | tuple[str, ...] | None) -> tuple[str, ...]:
    if key is None:
        inherited = getattr(cls, "__outbox_inbox_meta__", None)
        return inherited.key if inherited else ()
    if not isinstance(key, str | list | tuple):
        raise TypeError(
            f"{cls.__qualname__}: key is a field's name, or a tuple of them, "
            f"not {type(key).__name__}"
        )
    names = (key,) if isinstance(key, str) else tuple(key)
    fields = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for name in names:
        if name not in fields:
            hint = did_you_mean(name, fields) or f"; fields: {', '.join(fields)}"
            raise ValueError(f"{cls.__qualname__}: the key {name!r} is not a field{hint}")
    return names
