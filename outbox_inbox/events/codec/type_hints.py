"""Annotations of an event's class as field types; those that could not be stored are refused."""

import dataclasses
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Final, NewType, Union, cast, get_args, get_origin, get_type_hints

from pydantic.fields import FieldInfo

from .field_types import FieldType, FixedTuple, Items, Mapped, OneOf, Record, Refused
from .single_types import SINGLES, TEXT, enum_type

SUPPORTED: Final = (
    "str, int, float, bool, Decimal, date, datetime, time, timedelta, UUID, Enum, unions, "
    "list[...], tuple[...], dict[str, ...] and frozen dataclasses"
)
# By these a class takes part in its own reading, so it may change what it reads.
_HOOKS: Final = ("__post_init__", "__pydantic_config__", "__get_pydantic_core_schema__")


class ClassReader:
    """Reads one event class, and the dataclasses in its fields.

    Arguments:
        frozen: refuse a dataclass in a field that is not frozen; default True.

    Attributes:
        problems: what is wrong with the class, each with the field's name.
        ambiguous: the type alone does not prove that a value is read back as it was (a union of
            types with the same kind of JSON, a constraint or a hook of the class).
    """

    def __init__(self, *, frozen: bool = True) -> None:
        self.problems: list[str] = []
        self.ambiguous = False
        self._frozen = frozen
        self._records: dict[type, Record] = {}

    def record(self, cls: type) -> Record:
        """Read a dataclass; one that refers to itself refers to the same record."""
        if cls in self._records:
            return self._records[cls]
        record = self._records[cls] = Record(cls)
        self.ambiguous |= any(hasattr(cls, hook) for hook in _HOOKS)
        record.set_fields(self._fields(cls))
        return record

    def _fields(self, cls: type) -> dict[str, FieldType]:
        try:
            hints = get_type_hints(cls, include_extras=True)
        except (NameError, TypeError, SyntaxError, AttributeError) as error:
            self.problems.append(
                f"{cls.__qualname__}: {error}; an annotation in quotes (and each one, after `from "
                "__future__ import annotations`) names what its module has at run time"
            )
            return {}
        found = {}
        for field in dataclasses.fields(cls):
            try:
                found[field.name] = self._field(field, hints[field.name])
            except Refused as refused:
                self.problems.append(f"{cls.__qualname__}.{field.name}: {refused}")
        for name, hint in hints.items():
            if isinstance(hint, dataclasses.InitVar):
                self.problems.append(f"{cls.__qualname__}.{name}: an InitVar is not stored")
        return found

    def _field(self, field: "dataclasses.Field[Any]", hint: Any) -> FieldType:
        if not field.init:
            raise Refused("a field with init=False cannot be read back")
        if isinstance(field.default, FieldInfo):
            raise Refused("pydantic's Field() is not a default; use Annotated[..., Field(...)]")
        return self._read(hint)

    def _read(self, hint: Any) -> FieldType:
        origin, args = get_origin(hint), get_args(hint)
        if origin is Annotated:
            self.ambiguous = True
            return self._read(args[0])
        if isinstance(hint, NewType):
            return self._read(hint.__supertype__)
        if origin in {Union, UnionType}:
            return self._union(args)
        if origin is not None:
            return self._container(hint, origin, args)
        if isinstance(hint, type) or hint is None:
            return self._class(NoneType if hint is None else hint)
        raise Refused(f"{_title(hint)} is not supported")

    def _union(self, args: tuple[Any, ...]) -> FieldType:
        read = [self._read(arg) for arg in args]
        choices = [
            each for kind in read for each in (kind.choices if isinstance(kind, OneOf) else [kind])
        ]
        kinds = [kind for choice in choices for kind in choice.json]
        self.ambiguous |= len(kinds) > len(set(kinds))
        return OneOf(choices)

    def _container(self, hint: Any, origin: Any, args: tuple[Any, ...]) -> FieldType:
        if origin is list:
            return Items(list, self._read(args[0]))
        if origin is dict:
            if self._read(args[0]) is not TEXT:
                raise Refused(f"{_title(hint)}: the keys of a JSON object are str")
            return Mapped(TEXT, self._read(args[1]))
        if origin is tuple and args[1:] == (...,):
            return Items(tuple, self._read(args[0]))
        if origin is tuple:
            return FixedTuple(map(self._read, args))
        raise Refused(f"{_title(hint)} is not supported")

    def _class(self, cls: type[Any]) -> FieldType:
        if cls in SINGLES:
            return SINGLES[cls]
        if issubclass(cls, Enum):
            return enum_type(cls)
        if dataclasses.is_dataclass(cls):
            if self._frozen and not cast(Any, cls).__dataclass_params__.frozen:
                raise Refused(f"{cls.__qualname__} is not frozen: @dataclass(frozen=True)")
            return self.record(cls)
        if cls in {list, tuple, dict}:
            raise Refused(f"say what is in the {cls.__name__}, such as list[str] or dict[str, int]")
        raise Refused(f"{_title(cls)} is not supported")


def _title(hint: Any) -> str:
    plain = isinstance(hint, type) and get_origin(hint) is None
    return hint.__qualname__ if plain else str(hint).removeprefix("typing.")
