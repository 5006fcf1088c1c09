"""Turn events into JSON text and back, exactly or not at all.

Writing is canonical: names sorted, no spaces, text as UTF-8. Every value is checked by its exact
type while it is written (`field_types`), which costs no more than pydantic's writing alone.
Reading is pydantic's, strict, on text that was measured first and parsed strictly (`json_text`);
fields that the class does not have are ignored.

In most classes the types alone prove that what was written is read back as the same. In the others
(unions of types with the same kind of JSON, such as ``date | str``; constraints; ``__post_init__``)
each event is read back while it is being encoded, and compared.
"""

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar

from outbox_inbox.conf import settings
from outbox_inbox.events import DomainEvent, IntegrationEvent
from outbox_inbox.events.marks import Upcaster
from outbox_inbox.exceptions import InvalidEvent, NewerVersion, UnreadableMessage

from .field_types import Mapped, Refused
from .fit import view_problems as view_problems
from .json_text import MAX_DEPTH, limit_problem
from .json_text import check_limits as check_limits
from .json_text import load_object as load_object
from .json_text import text_problem as text_problem
from .shapes import Layout, event_layout
from .shapes import field_problems as field_problems
from .single_types import TEXT
from .states import decode_state as decode_state
from .states import encode_state as encode_state
from .states import fingerprint as fingerprint
from .type_hints import SUPPORTED as SUPPORTED

EventT = TypeVar("EventT", bound=DomainEvent | IntegrationEvent)

_HEADERS: Final = Mapped(TEXT, TEXT)


def encode(event: DomainEvent | IntegrationEvent) -> str:
    """Return an event as canonical JSON, which `decode` turns into an equal event.

    Raises:
        InvalidEvent: values of a wrong type, or that would not come back as they are; names all.
        TypeError: the class has fields of a type that cannot be stored.
    """
    layout = event_layout(type(event))
    try:
        text = layout.record.dump(event)
    except (Refused, RecursionError) as error:
        too_deep = f"the event is nested more than {MAX_DEPTH} levels deep"
        raise InvalidEvent(layout.name, layout.refusals(event, error, too_deep)) from None
    if problem := limit_problem(text, settings().max_payload):
        raise InvalidEvent(layout.name, [f"the event {problem}"])
    if layout.ambiguous and (changes := layout.changes(event, text)):
        raise InvalidEvent(layout.name, changes)
    return text


def decode(
    cls: type[EventT],
    data: str,
    *,
    version: int,
    upcasters: Mapping[int, Upcaster] = MappingProxyType({}),
    own: bool = False,
) -> EventT:
    """Return the event that a stored text holds.

    Arguments:
        cls: the class to read it as.
        data: JSON text, from anywhere.
        version: the version of the message.
        upcasters: for an older version, the function that takes its data (a dict, as parsed) and
            returns the data of the next version.
        own: `encode` has written the text, so it is not parsed a second time for what `encode`
            never writes, such as an object with a key twice. Default False: its origin is unknown.

    Raises:
        UnreadableMessage: the text is not an acceptable JSON object, exceeds a limit or does not
            fit the class; an upcaster is missing or failed.
        NewerVersion: the version is beyond that of the class.
        TypeError: the class has fields of a type that cannot be stored.
    """
    layout = event_layout(cls)
    if version > layout.version:
        raise NewerVersion(
            f"the message has version {version} of {layout.name}, but the newest version known here "
            f"is {layout.version}: its sender was deployed before its reader"
        )
    check_limits(data, settings().max_payload)
    if version < layout.version:
        data = _upcast(layout, load_object(data), version, upcasters)
    elif not own:
        load_object(data)
    event: EventT = layout.read_stored(data)
    return event


def own_reader(
    cls: type[EventT], upcasters: Mapping[int, Upcaster] = MappingProxyType({})
) -> Callable[[str, int], EventT]:
    """Return a function that reads events which `encode` has written, from text and version.

    It is for many events of a context's own stream, which is written by `encode` only; see ``own``
    of `decode`. Class and limits are looked up once. The function raises as `decode`.
    """
    layout, limit = event_layout(cls), settings().max_payload
    newest = layout.version

    def read(data: str, version: int) -> EventT:
        if version != newest:
            return decode(cls, data, version=version, upcasters=upcasters)
        check_limits(data, limit)
        event: EventT = layout.read_stored(data)
        return event

    return read


def encode_headers(headers: Mapping[str, str]) -> str:
    """Return headers as canonical JSON.

    Raises:
        InvalidEvent: a name or value is not a str or cannot be stored; names all of them.
    """
    if not isinstance(headers, Mapping):
        raise InvalidEvent("headers", [f"{type(headers).__name__} where a mapping is expected"])
    found = dict(headers)
    if not (problems := list(_HEADERS.problems(found, "headers"))):
        text = _HEADERS.dump(found)
        if (problem := limit_problem(text, settings().max_payload)) is None:
            return text
        problems = [f"their JSON {problem}"]
    raise InvalidEvent("headers", problems)


def decode_headers(data: str) -> dict[str, str]:
    """Return the headers that a stored text holds.

    Raises:
        UnreadableMessage: it is not an acceptable JSON object of texts.
    """
    if data == "{}":
        return {}
    check_limits(data, settings().max_payload)
    found = load_object(data)
    for name, value in found.items():
        if not isinstance(value, str):
            raise UnreadableMessage(f"the header {name[:50]!a} is not a text")
    return found


def _upcast(
    layout: Layout, tree: dict[str, Any], version: int, upcasters: Mapping[int, Upcaster]
) -> str:
    """Return the data of an older version as that of the class's own."""
    for number in range(version, layout.version):
        if number not in upcasters:
            raise UnreadableMessage(
                f"the message has version {version} of {layout.name}, and an upcaster from version "
                f"{number} is missing"
            )
        tree = _next_version(upcasters[number], tree)
    try:
        data = json.dumps(tree, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        last = _name(upcasters[layout.version - 1])
        raise UnreadableMessage(f"what {last} returned is not JSON: {error}") from error
    load_object(data)
    return data


def _next_version(upcaster: Upcaster, tree: dict[str, Any]) -> dict[str, Any]:
    try:
        found = upcaster(tree)
    except Exception as error:
        raise UnreadableMessage(
            f"the upcaster {_name(upcaster)} raised {type(error).__name__}: {error}"
        ) from error
    if not isinstance(found, dict):
        raise UnreadableMessage(
            f"the upcaster {_name(upcaster)} returned {type(found).__name__}, not a dict"
        )
    return found


def _name(upcaster: Upcaster) -> str:
    return getattr(upcaster, "__qualname__", repr(upcaster))
