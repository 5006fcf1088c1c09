"""Checks of a context's processes."""

import inspect
import sys
from collections.abc import Iterator
from typing import Any, cast

from django.core.checks import CheckMessage

from outbox_inbox.contexts import Context
from outbox_inbox.contexts.processes import process_classes
from outbox_inbox.events import codec
from outbox_inbox.processes import Process, version_of

from .messages import error, warning, where
from .signatures import hints_of

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _processes(context: Context) -> Iterator[tuple[str, type[Process]]]:
    for consumer in context.all_consumers:
        if consumer.kind == "process":
            yield consumer.name, cast(type[Process], consumer.function)


def check_methods(context: Context) -> Iterator[CheckMessage]:
    """E008: a marked method cannot be called with what it is marked for, or nothing starts it."""
    for name, cls in _processes(context):
        for problem in _problems(cls):
            yield error(
                "E008",
                f"{name} {problem}.",
                "Methods marked with @starts or @continues take the event, those marked with "
                "@times_out take nothing; a process has at least one event that starts it.",
                context.label,
            )


def _problems(cls: type[Process]) -> Iterator[str]:
    if not any(route.starts for route in cls.routes.values()):
        yield "is never started: none of its methods is marked with @starts"
    for route in cls.routes.values():
        for method in dict.fromkeys(filter(None, (route.starts, route.continues))):
            yield from _unfit(cls, method, route.event)
    for method in cls.time_outs.values():
        yield from _unfit(cls, method, None)


def _unfit(cls: type[Process], method: str, event: type | None) -> Iterator[str]:
    function = getattr(cls, method)
    parameters = list(inspect.signature(function).parameters.values())
    needed = [
        each for each in parameters if each.default is each.empty and each.kind in _POSITIONAL
    ]
    named = [each for each in parameters if each.kind in _POSITIONAL]
    expected = 1 if event is None else 2
    what = "self" if event is None else "self and the event"
    if not len(needed) <= expected <= len(named):
        yield f".{method} takes {len(named)} positional arguments; expected {what}"
    for each in parameters:
        if each.kind is inspect.Parameter.KEYWORD_ONLY and each.default is each.empty:
            yield f".{method} needs the keyword argument {each.name}, which nobody gives it"
    if event is not None and len(named) == expected:
        hint: Any = hints_of(function).get(named[1].name)
        if isinstance(hint, type) and not issubclass(event, hint):
            yield f".{method} annotates {named[1].name} as {hint.__name__}; expected {where(event)}"


def check_state(context: Context) -> Iterator[CheckMessage]:
    """E015, E009: the fields of a process cannot be stored, or an older version not be read."""
    for name, cls in _processes(context):
        for problem in codec.field_problems(cls):
            yield error(
                "E015",
                f"The process {name}: {problem}.",
                f"A field may hold {codec.SUPPORTED}.",
                context.label,
            )
        known = context.upcasters_of(cast(Any, cls))
        for version in range(1, version_of(cls)):
            if known and version >= min(known) and version not in known:
                yield error(
                    "E009",
                    f"The process {name} has version {version_of(cls)}, and no upcaster from "
                    f"version {version}.",
                    f"Add a function marked @upcasts({cls.__name__}, from_version={version}).",
                    context.label,
                )


def check_places(context: Context) -> Iterator[CheckMessage]:
    """W004: a process is where nobody looks for it."""
    collected = {cls for _, cls in _processes(context)}
    modules = [
        module
        for name, module in sorted(sys.modules.items())
        if f"{name}.".startswith(f"{context.app}.")
    ]
    for cls in process_classes(modules):
        if cls not in collected:
            yield warning(
                "W004",
                f"{where(cls)} is a process and will never be called: its module is not one of "
                "the context's `modules`.",
                "Move it, or name its module in the ContextConfig.",
                context.label,
            )


CHECKS = (check_methods, check_state, check_places)
