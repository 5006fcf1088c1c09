"""The types a field may have: for each, which values it takes and how they are written as JSON.

Values are checked by their exact type: a bool is not an int, a datetime not a date, and a lazy or
safe string not a str. So what is written is read back as the same value of
the same type, or it is refused.
Here are the types made of others; the single values are in `single_types`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from json.encoder import encode_basestring
from typing import Any, Final

# Kept in a tuple, since those clocks replace the classes where they are names of a module.
_MOMENTS: Final = (datetime, date)


class Refused(Exception):
    """A value cannot be stored; the text says why."""


def stands_for(value: object, kind: type) -> bool:
    """Return whether a value is a date or datetime of this type, although of a subclass.

    Clocks that are frozen or moved in tests hand out subclasses of date and datetime.
    """
    if kind in _MOMENTS and isinstance(value, kind):
        return kind is _MOMENTS[0] or not isinstance(value, _MOMENTS[0])
    return False


class FieldType(ABC):
    """What a field may hold.

    Attributes:
        python: the exact type of its values.
        json: the kinds of JSON values that are read as this type.
        title: its name in errors.
        zoned: pydantic reads values for it, or for something in it, that are not stored: a naive
            datetime, a time with a time zone.
    """

    python: type[Any]
    json: frozenset[str]
    title: str
    zoned: bool

    @abstractmethod
    def dump(self, value: Any) -> str:
        """Return the canonical JSON of a value.

        Raises:
            Refused: the value, or something in it, cannot be stored; says only the first reason.
        """

    def problems(self, value: Any, path: str) -> Iterator[str]:
        """Yield every reason to refuse a value, each with the path of what is at fault."""
        try:
            self.dump(value)
        except Refused as refused:
            yield f"{path}: {refused}"

    def expected(self, value: Any) -> Refused:
        """Return the error for a value of another type."""
        found = "None" if value is None else type(value).__name__
        return Refused(f"{found} where {self.title} is expected")


class Container(FieldType):
    """A type whose values have other values in them."""

    def problems(self, value: Any, path: str) -> Iterator[str]:
        if type(value) is self.python:
            yield from self._problems_inside(value, path)
        else:
            yield f"{path}: {self.expected(value)}"

    @abstractmethod
    def _problems_inside(self, value: Any, path: str) -> Iterator[str]: ...


class Items(Container):
    """A list, or a tuple of any length, with items of one type."""

    def __init__(self, python: type[Any], item: FieldType) -> None:
        self.python = python
        self.json = frozenset({"array"})
        self.item = item
        self.zoned = item.zoned
        ellipsis = ", ..." if python is tuple else ""
        self.title = f"{python.__name__}[{item.title}{ellipsis}]"

    def dump(self, value: Any) -> str:
        if type(value) is not self.python:
            raise self.expected(value)
        return "[" + ",".join(map(self.item.dump, value)) + "]"

    def _problems_inside(self, value: Any, path: str) -> Iterator[str]:
        for index, item in enumerate(value):
            yield from self.item.problems(item, f"{path}[{index}]")


class FixedTuple(Container):
    """A tuple with a type for each of its places."""

    python = tuple
    json = frozenset({"array"})

    def __init__(self, items: Iterable[FieldType]) -> None:
        self.items = tuple(items)
        self.zoned = any(item.zoned for item in self.items)
        self.title = f"tuple[{', '.join(item.title for item in self.items) or '()'}]"

    def dump(self, value: Any) -> str:
        if type(value) is not tuple or len(value) != len(self.items):
            raise self.expected(value)
        pairs = zip(self.items, value, strict=True)
        return "[" + ",".join([kind.dump(item) for kind, item in pairs]) + "]"

    def _problems_inside(self, value: Any, path: str) -> Iterator[str]:
        if len(value) != len(self.items):
            yield f"{path}: {len(value)} items where {self.title} is expected"
        else:
            for index, (kind, item) in enumerate(zip(self.items, value, strict=True)):
                yield from kind.problems(item, f"{path}[{index}]")


class Mapped(Container):
    """A dict with text as keys; the order of the keys is not kept."""

    python = dict
    json = frozenset({"object"})

    def __init__(self, key: FieldType, value: FieldType) -> None:
        self.key = key
        self.value = value
        self.zoned = value.zoned
        self.title = f"dict[str, {value.title}]"

    def dump(self, value: Any) -> str:
        if type(value) is not dict:
            raise self.expected(value)
        keys = [(self.key.dump(key), key) for key in value]
        keys.sort(key=lambda pair: pair[1])
        dump = self.value.dump
        return "{" + ",".join([f"{text}:{dump(value[key])}" for text, key in keys]) + "}"

    def _problems_inside(self, value: Any, path: str) -> Iterator[str]:
        for key, item in value.items():
            place = f"{path}[{key!a}]"
            yield from (f"{problem} (as a key)" for problem in self.key.problems(key, place))
            yield from self.value.problems(item, place)


class OneOf(FieldType):
    """A union: the first of its types that takes a value writes it."""

    python = object

    def __init__(self, choices: Iterable[FieldType]) -> None:
        self.choices = tuple(choices)
        self.zoned = any(choice.zoned for choice in self.choices)
        self.json = frozenset().union(*(choice.json for choice in self.choices))
        self.title = " | ".join(choice.title for choice in self.choices)
        self.by_type: dict[type, list[FieldType]] = {}
        for choice in self.choices:
            self.by_type.setdefault(choice.python, []).append(choice)

    def dump(self, value: Any) -> str:
        refused = None
        for choice in self._candidates(value):
            try:
                return choice.dump(value)
            except Refused as reason:
                refused = refused or reason
        raise refused or self.expected(value)

    def problems(self, value: Any, path: str) -> Iterator[str]:
        found = [list(choice.problems(value, path)) for choice in self._candidates(value)]
        if all(found):
            yield from found[0] if found else [f"{path}: {self.expected(value)}"]

    def _candidates(self, value: Any) -> Sequence[FieldType]:
        kind = type(value)
        if kind not in self.by_type:
            kind = next((known for known in self.by_type if stands_for(value, known)), kind)
        return self.by_type.get(kind, ())


class Record(Container):
    """A frozen dataclass: an event, or one nested in it. Its fields are filled in afterwards."""

    json = frozenset({"object"})

    def __init__(self, python: type[Any]) -> None:
        self.python = python
        self.title = python.__name__
        self.zoned = True  # Until more is known, for a field that refers to this record itself.
        self.fields: dict[str, FieldType] = {}
        self._writers: list[tuple[str, str, Callable[[Any], str]]] = []

    def set_fields(self, fields: Mapping[str, FieldType]) -> None:
        """Set the types of the fields; they may refer to this record itself."""
        self.fields = {name: fields[name] for name in sorted(fields)}
        self.zoned = any(kind.zoned for kind in self.fields.values())
        self._writers = [
            (f"{encode_basestring(name)}:", name, kind.dump) for name, kind in self.fields.items()
        ]

    def dump(self, value: Any) -> str:
        if type(value) is not self.python:
            raise self.expected(value)
        parts = [key + dump(getattr(value, name)) for key, name, dump in self._writers]
        return "{" + ",".join(parts) + "}"

    def _problems_inside(self, value: Any, path: str) -> Iterator[str]:
        for name, kind in self.fields.items():
            place = f"{path}.{name}" if path else name
            yield from kind.problems(getattr(value, name), place)
