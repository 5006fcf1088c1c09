"""What a consumer's signature and annotations say: can it be called, and with what."""

import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Union

from outbox_inbox.contexts.consumers import Consumer
from outbox_inbox.events.envelope import Envelope

_SEVERAL: tuple[Any, ...] = (list, tuple, Sequence, Collection, Iterable)
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def problems_of(consumer: Consumer) -> Iterator[str]:
    """Yield why the consumer's function cannot be called with what it is marked for."""
    parameters = list(inspect.signature(consumer.function).parameters.values())
    named = [each for each in parameters if each.kind in _POSITIONAL]
    expected = 2 if consumer.takes_envelope else 1
    takes_rest = any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters)
    if len(named) > expected or (len(named) < expected and not takes_rest):
        what = "the event and its envelope" if consumer.takes_envelope else "the event"
        yield f"takes {_count(len(named))}; expected {_count(expected)}: {what}"
    for each in parameters:
        if each.kind is inspect.Parameter.KEYWORD_ONLY and each.default is each.empty:
            yield f"needs the keyword argument {each.name}, which nobody gives it"
    hints = hints_of(consumer.function)
    for parameter, accepted in zip(named, _accepted(consumer), strict=False):
        hint = hints.get(parameter.name, Any)
        for cls in accepted:
            if not _takes(hint, cls, many=consumer.mode == "list"):
                name = f"list[{cls.__name__}]" if consumer.mode == "list" else cls.__name__
                yield f"annotates {parameter.name} as {_text(hint)}; expected {name}"


def _accepted(consumer: Consumer) -> Iterator[tuple[type, ...]]:
    yield tuple(consumer.events.values())
    if consumer.takes_envelope:
        yield (Envelope,)


def hints_of(function: Callable[..., object]) -> dict[str, Any]:
    """Return the annotations of a function; none when one of them cannot be resolved here."""
    try:
        return typing.get_type_hints(inspect.unwrap(function))
    except (NameError, AttributeError, TypeError):
        # Names imported under TYPE_CHECKING only: legal, and nothing can be said about them.
        return {}


def returned_classes(function: Callable[..., object]) -> set[type] | None:
    """Return the classes that the return annotation names, or None when it does not tell."""
    found: set[type] = set()
    pending = [hints_of(function).get("return", Any)]
    while pending:
        hint = pending.pop()
        origin = typing.get_origin(hint)
        if origin in (Union, types.UnionType, *_SEVERAL):
            pending += [each for each in typing.get_args(hint) if each is not Ellipsis]
        elif not isinstance(hint, type) or hint in (Any, object, *_SEVERAL):
            return None
        elif hint is not type(None):
            found.add(hint)
    return found


def _takes(hint: Any, cls: type, *, many: bool) -> bool:
    """Tell whether an argument annotated like this takes a ``cls`` (a list of them if many)."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_takes(each, cls, many=many) for each in arguments)
    if many and origin in _SEVERAL:
        return origin is not tuple and _takes(arguments[0], cls, many=False)
    if isinstance(hint, type) and hint is not Any and origin is None:
        return issubclass(list if many else cls, hint)
    return origin is None  # Any, a type variable, a protocol: nothing to object to


def _count(number: int) -> str:
    return f"{number} positional argument{'' if number == 1 else 's'}"


def _text(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)
