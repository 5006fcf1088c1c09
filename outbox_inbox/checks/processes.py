"""Checks of a context's processes."""

from collections.abc import Iterator
from typing import Any, cast

from django.core.checks import CheckMessage

from outbox_inbox.contexts import Context
from outbox_inbox.events import EventClass, codec, meta
from outbox_inbox.processes import Process

from .messages import error
from .signatures import Argument, call_problems


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
                "A method marked with @starts or @continues takes the event, one marked with "
                "@times_out takes nothing. A process has at least one event that starts it.",
            )


def _problems(cls: type[Process]) -> Iterator[str]:
    if not any(route.starts for route in cls.routes.values()):
        yield "is never started: none of its methods is marked with @starts"
    for route in cls.routes.values():
        for method in dict.fromkeys(filter(None, (route.starts, route.continues))):
            yield from _method_problems(cls, method, route.event)
    for method in cls.time_outs.values():
        yield from _method_problems(cls, method)


def _method_problems(cls: type[Process], method: str, *events: EventClass) -> Iterator[str]:
    arguments = [Argument("self"), *(Argument("the event", (event,)) for event in events)]
    for problem in call_problems(getattr(cls, method), arguments):
        yield f".{method} {problem}"


def check_state(context: Context) -> Iterator[CheckMessage]:
    """E015, E009: the fields of a process, or an older version of them, cannot be stored or read."""
    for name, cls in _processes(context):
        for problem in codec.field_problems(cls):
            yield error(
                "E015",
                f"The process {name}: {problem}.",
                f"A field may hold {codec.SUPPORTED}.",
            )
        known, current = context.upcasters_of(cast(Any, cls)), meta(cls).version
        for version in range(min(known, default=current), current):
            if version not in known:
                yield error(
                    "E009",
                    f"The process {name} has version {current}, but no upcaster from version "
                    f"{version}.",
                    f"Add a function marked @upcasts({cls.__name__}, from_version={version}).",
                )


CHECKS = (check_methods, check_state)
