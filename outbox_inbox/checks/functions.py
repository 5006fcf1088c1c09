"""Checks of a context's handlers, translators and upcasters."""

import sys
from collections import Counter
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import cast

from django.apps import apps
from django.core.checks import CheckMessage

from outbox_inbox.contexts import Context, ContextConfig, context_of, contexts
from outbox_inbox.contexts.consumers import Consumer, has_module, marked_functions
from outbox_inbox.events import meta
from outbox_inbox.events.marking import EventClass, UpcastsMark, marks_of
from outbox_inbox.exceptions import NotAContext
from outbox_inbox.processes import TimedOut

from .messages import error, warning, where
from .signatures import problems_of, returned_classes


def check_consumed(context: Context) -> Iterator[CheckMessage]:
    """E002: a consumer takes what its context can never receive."""
    for consumer in context.all_consumers:
        for name, cls in consumer.events.items():
            if cls is TimedOut:
                continue  # a process's own
            if meta(cls).kind == "integration" and name not in context.subscribed:
                yield error(
                    "E002",
                    f"{consumer.name} takes the contract {name!r}, which the context does not "
                    "subscribe to.",
                    f"Add {cls.__name__} to `subscribes` of its ContextConfig.",
                    context.label,
                )
            elif meta(cls).kind == "domain" and _label_of(cls) != context.label:
                yield error(
                    "E002",
                    f"{consumer.name} takes {where(cls)}, a domain event that belongs to "
                    f"{_label_of(cls) or 'no context'}.",
                    "Domain events stay within their context: let the other one publish a "
                    "contract and subscribe to that, or move the class into this context's app.",
                    context.label,
                )


def _label_of(cls: EventClass) -> str | None:
    try:
        return context_of(cls).label
    except NotAContext:
        return None


def check_signatures(context: Context) -> Iterator[CheckMessage]:
    """E008: a consumer cannot be called with its event, or returns what cannot be recorded."""
    for consumer in context.all_consumers:
        if consumer.kind == "process":
            continue  # see checks/processes.py
        problems = [*problems_of(consumer), *_return_problems(consumer, context)]
        for problem in problems:
            yield error(
                "E008",
                f"{consumer.name} {problem}.",
                "Handlers take the event, and the envelope with takes_envelope=True; with "
                "batch=True they take lists. Translators take the event alone, and return one "
                "event, a list or tuple of events, or None.",
                context.label,
            )


def _return_problems(consumer: Consumer, context: Context) -> Iterator[str]:
    returned = returned_classes(consumer.function)
    if consumer.kind == "handler" or returned is None:
        return
    for cls in sorted(returned, key=where):
        kind = getattr(cls, "__outbox_inbox_meta__", None) and meta(cls).kind
        if consumer.kind == "outbound" and kind != "integration":
            yield f"returns {cls.__name__}; expected a contract"
        elif consumer.kind == "outbound" and not context.publishes_class(cls):
            yield f"returns {where(cls)}, which is not in `publishes` of the context"
        elif consumer.kind == "inbound" and kind != "domain":
            yield f"returns {cls.__name__}; expected a domain event of the context"
        elif consumer.kind == "inbound" and _label_of(cls) != context.label:
            yield f"returns {where(cls)}, which belongs to {_label_of(cls) or 'no context'}"


def check_consumer_names(context: Context) -> Iterator[CheckMessage]:
    """E011: deliveries are stored by the consumer's name, so one of two would never run."""
    counts = Counter(consumer.name for consumer in context.all_consumers)
    for name, count in counts.items():
        if count > 1:
            functions = [
                f"{each.function.__module__}.{each.function.__qualname__}"
                for each in context.all_consumers
                if each.name == name
            ]
            yield error(
                "E011",
                f"{' and '.join(functions)} are consumers with one name, {name!r}; only one of "
                "them would run.",
                "Give each of them a name= of its own, or rename a function.",
                context.label,
            )


def check_modules(context: Context) -> Iterator[CheckMessage]:
    """W004: a marked function is where nobody looks for it, or a named module does not exist."""
    config = cast(ContextConfig, apps.get_app_config(context.label))
    for function in marked_functions(_modules_of(context)):
        if not _is_collected(function, context):
            yield warning(
                "W004",
                f"{function.__module__}.{function.__qualname__} is marked and will never be "
                f"called: its module is not one of {', '.join(config.modules) or 'none'}.",
                f"Move it, or name its module in {type(config).__name__}.modules; what one of "
                "those, as a package, imports from its submodules counts as its own.",
                context.label,
            )
    if config.modules is not ContextConfig.modules:
        for name in config.modules:
            if not has_module(config.name, name):
                yield warning(
                    "W004",
                    f"{type(config).__name__}.modules names {name!r}, and there is no module "
                    f"{config.name}.{name}.",
                    "Correct the name, or take it out.",
                    context.label,
                )


def _modules_of(context: Context) -> Iterator[ModuleType]:
    nested = [f"{other.app}." for other in contexts() if other.app.startswith(f"{context.app}.")]
    for name, module in sorted(sys.modules.items()):
        within = f"{name}.".startswith(f"{context.app}.")
        if within and not any(f"{name}.".startswith(prefix) for prefix in nested):
            yield module


def _is_collected(function: FunctionType, context: Context) -> bool:
    projections = [each for kept in context.all_read_models for each in kept.consumers]
    if any(each.function is function for each in (*context.all_consumers, *projections)):
        return True
    return any(
        isinstance(mark, UpcastsMark)
        and context.upcasters_of(mark.event).get(mark.from_version) is function
        for mark in marks_of(function)
    )


CHECKS = (check_consumed, check_signatures, check_consumer_names, check_modules)
