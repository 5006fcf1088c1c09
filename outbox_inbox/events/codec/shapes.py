"""The shape of a stored class: built once, then used to write and read its instances.

Building one reads annotations and compiles pydantic's reader, which would be far too slow to do for
each message.
"""

import dataclasses
from collections.abc import Iterator
from enum import Enum
from typing import Any

from pydantic import TypeAdapter, ValidationError

from outbox_inbox.events import meta
from outbox_inbox.exceptions import UnreadableMessage

from .field_types import FieldType, OneOf, Record, stands_for
from .single_types import Single
from .type_hints import SUPPORTED, ClassReader

_MOST_REASONS = 20


class Unfit(Exception):
    """A JSON text does not fit a class; ``args`` are the reasons, each with the field's path."""


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """What is known of a dataclass whose instances are stored.

    Attributes:
        name: the class's name, for errors.
        version: of an event class.
        record: its fields; writes its instances.
        adapter: pydantic's; reads its instances.
        ambiguous: only reading an instance back proves that it comes back as it was.
        zoned: the fields for which pydantic reads values that are not stored.
    """

    name: str
    version: int
    record: Record
    adapter: TypeAdapter[Any]
    ambiguous: bool
    zoned: tuple[tuple[str, FieldType], ...]

    def read(self, data: str) -> Any:
        """Return the instance in a JSON text.

        Raises:
            Unfit: the text does not fit the class.
        """
        try:
            found = self.adapter.validate_json(data, strict=True)
        except ValidationError as error:
            # Without the cause, which would repeat private values in every log.
            raise Unfit(*_reasons(error)) from None
        except Exception as error:
            raise Unfit(f"{self.name} raised {type(error).__name__}: {error}") from error
        pairs = [(kind, name, getattr(found, name)) for name, kind in self.zoned]
        if problems := [each for kind, name, value in pairs for each in kind.problems(value, name)]:
            raise Unfit(*problems)
        return found

    def read_stored(self, data: str) -> Any:
        """Return the instance in a stored JSON text.

        Raises:
            UnreadableMessage: the text does not fit the class.
        """
        try:
            return self.read(data)
        except Unfit as unfit:
            reasons = "; ".join(unfit.args[:_MOST_REASONS])
            raise UnreadableMessage(f"the data does not fit {self.name}: {reasons}") from unfit

    def refusals(self, value: object, first: Exception, too_deep: str) -> list[str]:
        """Return every reason why an instance cannot be written, ``first`` if there is no other."""
        try:
            return list(self.record.problems(value, "")) or [str(first)]
        except RecursionError:
            return [too_deep]

    def changes(self, value: object, data: str) -> list[str]:
        """Return what in an instance would not come back from its JSON text as it was."""
        try:
            return list(_differences(value, self.read(data), ""))
        except Unfit as unfit:
            return [f"{reason} (when it is read back)" for reason in unfit.args]


_layouts: dict[type, Layout] = {}


def event_layout(cls: type) -> Layout:
    """Return the layout of an event class, which is built at the first call.

    Raises:
        TypeError: it is not an event class, or has fields that cannot be stored; names all of them.
    """
    layout = _layouts.get(cls)
    if layout is None:
        layout = _layouts[cls] = _layout(cls, *_read_event(cls), meta(cls).version)
    return layout


def field_problems(cls: type) -> list[str]:
    """Return what makes an event class unfit to be stored, each problem with its field.

    Raises:
        TypeError: it is not an event class.
    """
    return _read_event(cls)[2]


def state_layout(cls: type) -> Layout:
    """Return the layout of a dataclass that is not an event; it and its fields may be mutable.

    Raises:
        TypeError: it has fields that cannot be stored; names all of them.
    """
    reader = ClassReader(frozen=False)
    return _layout(cls, reader, reader.record(cls), reader.problems)


def _layout(
    cls: type, reader: ClassReader, record: Record, problems: list[str], version: int = 1
) -> Layout:
    if problems:
        raise TypeError(f"{'; '.join(problems)}. A field may hold {SUPPORTED}.")
    adapter: TypeAdapter[Any] = TypeAdapter(cls)
    ambiguous = reader.ambiguous or _has_functions(adapter.core_schema)
    zoned = tuple((name, kind) for name, kind in record.fields.items() if kind.zoned)
    return Layout(cls.__name__, version, record, adapter, ambiguous, zoned)


def _read_event(cls: type) -> tuple[ClassReader, Record, list[str]]:
    meta(cls)
    reader = ClassReader()
    record = reader.record(cls)
    return reader, record, [*reader.problems, *_key_problems(cls, record)]


def _key_problems(cls: type, record: Record) -> Iterator[str]:
    for name, kind in record.fields.items():
        choices = kind.choices if isinstance(kind, OneOf) else (kind,)
        if name in meta(cls).key and not all(isinstance(each, Single) for each in choices):
            yield f"{cls.__qualname__}.{name}: a key is a single value, not {kind.title}"


def _has_functions(schema: Any) -> bool:
    """Return whether a validator of the user's takes part in reading: it may change a value."""
    if isinstance(schema, dict):
        kind = schema.get("type")
        own = isinstance(kind, str) and kind.startswith("function")
        return own or any(map(_has_functions, schema.values()))
    return isinstance(schema, list | tuple) and any(map(_has_functions, schema))


def _reasons(error: ValidationError) -> Iterator[str]:
    for each in error.errors(include_url=False, include_context=False, include_input=False):
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in each["loc"])
        yield f"{path.removeprefix('.')}: {each['msg']}"


def _differences(before: Any, after: Any, path: str) -> Iterator[str]:
    """Yield where a value and the one read back differ; equal is not enough (``1 == 1.0``)."""
    if type(before) is not type(after) and not stands_for(before, type(after)):
        yield f"{path}: {type(before).__name__} would be read back as {type(after).__name__}"
    elif dataclasses.is_dataclass(before):
        for field in dataclasses.fields(before):
            values = getattr(before, field.name), getattr(after, field.name)
            yield from _differences(*values, f"{path}.{field.name}".removeprefix("."))
    elif isinstance(before, list | tuple | dict):
        yield from _item_differences(before, after, path)
    elif before is not after and (isinstance(before, Enum) or str(before) != str(after)):
        yield f"{path}: would be read back as another value"


def _item_differences(before: Any, after: Any, path: str) -> Iterator[str]:
    places = before if isinstance(before, dict) else range(len(before))
    if len(before) != len(after) or (isinstance(before, dict) and before.keys() != after.keys()):
        yield f"{path}: would be read back with other items"
    else:
        for place in places:
            yield from _differences(before[place], after[place], f"{path}[{place!a}]")
