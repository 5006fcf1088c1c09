"""Whether a consumer can be called with what it is marked for; its annotations are believed.

A mistake here would fail every delivery at run time, one after another, until all are dead.
"""

import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, NamedTuple, NewType, TypeVar, Union

from outbox_inbox.contexts import ConsumerFunction
from outbox_inbox.events.envelope import Envelope

_SEVERAL: tuple[Any, ...] = (list, tuple, Sequence, Collection, Iterable)


class Argument(NamedTuple):
    """What a function is called with.

    Fields:
        title: as a message names it.
        classes: an annotation has to take each of them.
        many: lists of them.
    """

    title: str
    classes: tuple[type, ...] = ()
    many: bool = False


def arguments_of(function: ConsumerFunction) -> list[Argument]:
    """Return what a function of a consumer is called with."""
    many = function.mode == "list"
    events = Argument(
        "a list of events" if many else "the event", (*function.events.values(),), many
    )
    if not function.takes_envelope:
        return [events]
    title = "a list of envelopes" if many else "the envelope"
    return [events, Argument(title, (Envelope,), many)]


def call_problems(function: Callable[..., object], arguments: Iterable[Argument]) -> Iterator[str]:
    """Yield why a function cannot be called with these arguments, by position."""
    given = list(arguments)
    signature = inspect.signature(function)
    try:
        bound = signature.bind(*given)
    except TypeError as error:
        titles = " and ".join(each.title for each in given if each.title) or "no arguments"
        yield f"cannot be called with {titles}: {error}"
        return
    hints = hints_of(function)
    for name, argument in bound.arguments.items():
        several = signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
        for each in argument if several else (argument,):
            yield from _annotation_problems(name, hints.get(name, Any), each)


def _annotation_problems(name: str, hint: Any, argument: Argument) -> Iterator[str]:
    for cls in argument.classes:
        if not _takes(hint, cls, many=argument.many):
            expected = f"list[{cls.__name__}]" if argument.many else cls.__name__
            text = hint.__name__ if isinstance(hint, type) else hint
            yield f"annotates {name} as {text}; expected {expected}"


def hints_of(function: Callable[..., object]) -> dict[str, Any]:
    """Return the annotations of a function, without those that cannot be resolved here."""
    plain: Any = inspect.unwrap(function)
    names = getattr(plain, "__globals__", {})
    found: dict[str, Any] = {}
    for name, annotation in getattr(plain, "__annotations__", {}).items():
        # One by one: a name that is imported under TYPE_CHECKING only is legal, and not known here.
        # It says nothing of the other annotations.
        with suppress(NameError, AttributeError, TypeError):
            alone = SimpleNamespace(__annotations__={name: annotation})
            found |= typing.get_type_hints(alone, globalns=names)
    return found


def returned_classes(function: Callable[..., object]) -> set[type] | None:
    """Return the classes that the return annotation names, or None when it names no class.

    An empty set: it says that nothing is returned.
    """
    found: set[type] = set()
    pending = [hints_of(function).get("return", Any)]
    while pending:
        hint = pending.pop()
        origin = typing.get_origin(hint)
        if origin in (Union, types.UnionType, *_SEVERAL):
            pending += [each for each in typing.get_args(hint) if each is not Ellipsis]
        elif isinstance(origin, type):
            found.add(origin)  # an iterator, a dict: no translator may return it
        elif not isinstance(hint, type) or hint in (Any, object, *_SEVERAL):
            return None
        elif hint is not type(None):
            found.add(hint)
    return found


def _takes(hint: Any, cls: type, *, many: bool) -> bool:
    """Return whether an argument annotated like this takes a ``cls`` (a list of them if many)."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, TypeVar):
        return any(
            _takes(each, cls, many=many) for each in hint.__constraints__ or (hint.__bound__,)
        )
    if isinstance(hint, NewType):
        return _takes(hint.__supertype__, cls, many=many)
    if origin in (Union, types.UnionType):
        return any(_takes(each, cls, many=many) for each in arguments)
    if many and origin in _SEVERAL:
        return origin is not tuple and _takes(arguments[0], cls, many=False)
    if isinstance(hint, type) and hint is not Any and origin is None:
        return issubclass(list if many else cls, hint)
    return origin is None  # Any or a protocol: it may take anything
