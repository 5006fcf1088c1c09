"""Checks of a context's handlers, translators and upcasters."""

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, cast

from django.apps import apps
from django.core.checks import CheckMessage

from outbox_inbox.contexts import Consumer, Context, ContextConfig
from outbox_inbox.contexts.consumers import definitions, is_marked, is_process, path_of
from outbox_inbox.contexts.declaring import has_module, label_of, owner_of
from outbox_inbox.events import EventClass, meta
from outbox_inbox.events.marks import UpcastsMark, mark_of
from outbox_inbox.processes import TimedOut

from .messages import error, warning
from .signatures import arguments_of, call_problems, returned_classes


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
                )
            elif meta(cls).kind == "domain" and label_of(cls.__module__) != context.label:
                yield error(
                    "E002",
                    f"{consumer.name} takes {path_of(cls)}, a domain event that {_owner(cls)}.",
                    "Domain events stay within their context. Let the other context publish a "
                    "contract and subscribe to it, or move the class into this context's app.",
                )


def _owner(cls: EventClass) -> str:
    label = label_of(cls.__module__)
    return f"belongs to {label}" if label else "does not belong to a context"


def check_signatures(context: Context) -> Iterator[CheckMessage]:
    """E008: a consumer cannot be called with its event, or returns what cannot be recorded."""
    for consumer in context.all_consumers:
        if consumer.kind == "process":
            continue  # see checks/processes.py
        problems = call_problems(consumer.function, arguments_of(consumer))
        for problem in (*problems, *_return_problems(consumer, context)):
            yield error(
                "E008",
                f"{consumer.name} {problem}.",
                "A handler takes the event, and the envelope with takes_envelope=True; with "
                "many=True it takes lists. A translator takes the event alone, and returns one "
                "event, a list or tuple of events, or None.",
            )


def _return_problems(consumer: Consumer, context: Context) -> Iterator[str]:
    returned = returned_classes(consumer.function)
    if consumer.kind == "handler" or returned is None:
        return
    for cls in sorted(returned, key=path_of):
        kind = getattr(cls, "__outbox_inbox_meta__", None) and meta(cls).kind
        if consumer.kind == "outbound" and kind != "integration":
            yield f"returns {cls.__name__}; expected a contract"
        elif consumer.kind == "outbound" and not context.publishes_class(cls):
            yield f"returns {path_of(cls)}, which is not in `publishes` of the context"
        elif consumer.kind == "inbound" and kind != "domain":
            yield f"returns {cls.__name__}; expected a domain event of the context"
        elif consumer.kind == "inbound" and label_of(cls.__module__) != context.label:
            yield f"returns {path_of(cls)}, which {_owner(cls)}"


def check_consumer_names(context: Context) -> Iterator[CheckMessage]:
    """E011: deliveries are stored by the consumer's name, so one of two would never run."""
    functions: dict[str, list[str]] = defaultdict(list)
    for consumer in context.all_consumers:
        functions[consumer.name].append(path_of(consumer.function))
    for name, found in functions.items():
        if len(found) > 1:
            yield error(
                "E011",
                f"{' and '.join(found)} are consumers with one name, {name!r}; only one of them "
                "would run.",
                "Give each of them a name= of its own, or rename a function.",
            )


def check_modules(context: Context) -> Iterator[CheckMessage]:
    """W004: a marked function or a process is where nothing searches, or a module is missing."""
    config = cast(ContextConfig, apps.get_app_config(context.label))
    modules = [
        module
        for name, module in sorted(sys.modules.items())
        if f"{name}.".startswith(f"{context.app}.") and owner_of(name) is config
    ]
    for found in definitions(modules, lambda value: is_marked(value) or is_process(value)):
        if not _is_collected(found, context):
            yield warning(
                "W004",
                f"{path_of(found)} is {'a process' if isinstance(found, type) else 'marked'}, but it "
                "is never called: the context searches the modules "
                f"{', '.join(config.modules) or '(it names none)'}.",
                f"Move it, or name its module in {type(config).__name__}.modules. What a package "
                "among them imports from its submodules counts as defined there.",
            )
    own = () if config.modules is ContextConfig.modules else config.modules
    for name in own:
        if not has_module(config.name, name):
            yield warning(
                "W004",
                f"{type(config).__name__}.modules names {name!r}, but the module "
                f"{config.name}.{name} does not exist.",
                "Correct the name, or remove it.",
            )


def _is_collected(found: Callable[..., Any], context: Context) -> bool:
    projections = [each for kept in context.all_read_models for each in kept.consumers]
    if any(each.function is found for each in (*context.all_consumers, *projections)):
        return True
    mark = mark_of(found)
    return isinstance(mark, UpcastsMark) and any(
        context.upcasters_of(event).get(version) is found for event, version in mark.events
    )


CHECKS = (check_consumed, check_signatures, check_consumer_names, check_modules)
