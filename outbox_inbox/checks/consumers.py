"""Checks of a context's consumers (handlers, translators, processes, projections) and upcasters."""

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from django.apps import apps
from django.core.checks import CheckMessage

from outbox_inbox.contexts import Consumer, ConsumerFunction, Context, ContextConfig
from outbox_inbox.contexts.consumers import ConsumerKind, definitions, is_process, path_of
from outbox_inbox.contexts.declaring import import_modules, label_of
from outbox_inbox.events import DomainEvent, EventClass, IntegrationEvent, codec, meta
from outbox_inbox.events.marks import UpcastsMark, mark_of
from outbox_inbox.processes import Process, TimedOut

from .messages import error, warning
from .signatures import Argument, arguments_of, call_problems, returned_classes

_SIGNATURES: Mapping[str, str] = {
    "process": (
        "A method marked with @starts or @continues takes the event, one marked with @times_out "
        "takes nothing. A process has at least one event that starts it."
    ),
    "projection": (
        "A projection takes the event, and the envelope with takes_envelope=True; with many=True "
        "it takes lists."
    ),
}
_SIGNATURE_OF_A_FUNCTION = (
    "A handler takes the event, and the envelope with takes_envelope=True; with many=True it takes "
    "lists. A translator takes the event alone, and returns one event, a list or tuple of events, "
    "or None."
)


def check_consumed(context: Context) -> Iterator[CheckMessage]:
    """E002: a consumer takes what its context can never receive."""
    for function in [each for consumer in context.all_consumers for each in consumer.functions]:
        for name, cls in function.events.items():
            if cls is TimedOut:
                continue  # a process's own
            if meta(cls).kind == "integration" and name not in context.subscribed:
                yield error(
                    "E002",
                    f"{function.name} takes the contract {name!r}, which the context does not "
                    "subscribe to.",
                    f"Add {cls.__name__} to `subscribes` of its ContextConfig.",
                )
            elif meta(cls).kind == "domain" and label_of(cls.__module__) != context.label:
                yield error(
                    "E002",
                    f"{function.name} takes {path_of(cls)}, a domain event that {_owner(cls)}.",
                    "Domain events stay within their context. Let the other context publish a "
                    "contract and subscribe to it, or move the class into this context's app.",
                )


def _owner(cls: EventClass) -> str:
    label = label_of(cls.__module__)
    return f"belongs to {label}" if label else "does not belong to a context"


def _all_consumers(context: Context) -> list[Consumer]:
    projections = [each for kept in context.all_read_models for each in kept.consumers]
    return [*context.all_consumers, *projections]


def check_signatures(context: Context) -> Iterator[CheckMessage]:
    """E008: a consumer cannot be called with its event, or returns what cannot be recorded."""
    for consumer in _all_consumers(context):
        kind = "The projection " if consumer.kind == "projection" else ""
        hint = _SIGNATURES.get(consumer.kind, _SIGNATURE_OF_A_FUNCTION)
        for function in consumer.functions:
            for problem in _signature_problems(consumer, function, context):
                yield error("E008", f"{kind}{function.name} {problem}.", hint)


def _signature_problems(
    consumer: Consumer, function: ConsumerFunction, context: Context
) -> Iterator[str]:
    if consumer.kind == "process":
        yield from _process_problems(cast(type[Process], function.call))
    else:
        yield from call_problems(function.call, arguments_of(function))
        yield from _return_problems(consumer.kind, function, context)


def _process_problems(cls: type[Process]) -> Iterator[str]:
    if not any(route.starts for route in cls.routes.values()):
        yield "is never started: none of its methods is marked with @starts"
    calls = [
        (method, [Argument("self"), Argument("the event", (route.event,))])
        for route in cls.routes.values()
        for method in dict.fromkeys(filter(None, (route.starts, route.continues)))
    ]
    calls += [(method, [Argument("self")]) for method in cls.time_outs.values()]
    for method, arguments in calls:
        for problem in call_problems(getattr(cls, method), arguments):
            yield f".{method} {problem}"


def _return_problems(
    consumer_kind: ConsumerKind, function: ConsumerFunction, context: Context
) -> Iterator[str]:
    returned = returned_classes(function.call)
    if consumer_kind in _WANTED and returned == set():
        yield f"returns nothing; expected {_WANTED[consumer_kind]}"
    for cls in sorted(returned or (), key=path_of):
        if consumer_kind in _WANTED:
            yield from _translation_problems(consumer_kind, cls, context)
        elif _kind_of(cls):
            yield (
                f"returns {cls.__name__}, which is dropped: record() it, or mark a translator "
                "with @outbound or @inbound"
            )


def _translation_problems(
    consumer_kind: ConsumerKind, cls: type, context: Context
) -> Iterator[str]:
    outbound = consumer_kind == "outbound"
    if _kind_of(cls) != ("integration" if outbound else "domain"):
        yield f"returns {cls.__name__}; expected {_WANTED[consumer_kind]}"
    elif cls in _ANY_EVENT:
        return
    elif outbound and not context.publishes_class(cls):
        yield f"returns {path_of(cls)}, which is not in `publishes` of the context"
    elif not outbound and label_of(cls.__module__) != context.label:
        yield f"returns {path_of(cls)}, which {_owner(cls)}"


_WANTED: Mapping[str, str] = {
    "outbound": "a contract",
    "inbound": "a domain event of the context",
}
_ANY_EVENT: Mapping[type, str] = {DomainEvent: "domain", IntegrationEvent: "integration"}


def _kind_of(cls: type) -> str:
    """Return the kind of an event's class, also of those that all events have; empty: another class."""
    return next((kind for base, kind in _ANY_EVENT.items() if issubclass(cls, base)), "")


def check_consumer_names(context: Context) -> Iterator[CheckMessage]:
    """E011: deliveries are stored by the consumer's name, so one of two would never run."""
    consumers: dict[str, list[Consumer]] = defaultdict(list)
    for consumer in context.all_consumers:
        consumers[consumer.name].append(consumer)
    for name, found in consumers.items():
        if len(found) > 1:
            paths = [function.path for each in found for function in each.functions]
            yield error(
                "E011",
                f"{' and '.join(paths)} are consumers with one name, {name!r}; only one of them "
                "would run.",
                "Give each of them a name= or consumer= of its own, or rename a function.",
            )


def check_groups(context: Context) -> Iterator[CheckMessage]:
    """E019: functions of one consumer contradict each other about how it is called."""
    for consumer in context.all_consumers:
        first = consumer.functions[0]
        for other in consumer.functions[1:]:
            for option in ("mode", "on_dead", "max_attempts"):
                ours, theirs = getattr(first, option), getattr(other, option)
                if ours != theirs:
                    title = "transaction= or many=" if option == "mode" else f"{option}="
                    yield error(
                        "E019",
                        f"{first.path} and {other.path} are one consumer, {consumer.name!r}, and "
                        f"differ in {title} ({ours!r}, {theirs!r}); that of the first is used.",
                        "Give both the same options, or a consumer= of its own to one of them.",
                    )


def check_state(context: Context) -> Iterator[CheckMessage]:
    """E015, E009: the fields of a process, or an older version of them, cannot be stored or read."""
    for consumer in context.all_consumers:
        if consumer.kind != "process":
            continue
        name, cls = consumer.name, cast(type[Process], consumer.functions[0].call)
        for problem in codec.field_problems(cls):
            yield error(
                "E015", f"The process {name}: {problem}.", f"A field may hold {codec.SUPPORTED}."
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


def check_modules(context: Context) -> Iterator[CheckMessage]:
    """W004: a marked function or a process is where nothing searches, or a module is missing."""
    config = cast(ContextConfig, apps.get_app_config(context.label))
    modules = [
        module
        for name, module in sorted(sys.modules.items())
        if f"{name}.".startswith(f"{context.app}.") and label_of(name) == context.label
    ]
    for found in definitions(modules, lambda value: mark_of(value) or is_process(value)):
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
        if not import_modules(config.name, [name]):
            yield warning(
                "W004",
                f"{type(config).__name__}.modules names {name!r}, but the module "
                f"{config.name}.{name} does not exist.",
                "Correct the name, or remove it.",
            )


def _is_collected(found: Callable[..., Any], context: Context) -> bool:
    called = (function.call for each in _all_consumers(context) for function in each.functions)
    if any(each is found for each in called):
        return True
    mark = mark_of(found)
    return isinstance(mark, UpcastsMark) and any(
        context.upcasters_of(event).get(version) is found for event, version in mark.events
    )
