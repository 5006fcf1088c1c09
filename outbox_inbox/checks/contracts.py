"""Checks of what contexts publish and subscribe to, and of their events' names and versions."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import chain

from django.core.checks import CheckMessage

from outbox_inbox.conf import SCHEMES, settings
from outbox_inbox.contexts import Context, contexts
from outbox_inbox.contexts.consumers import path_of
from outbox_inbox.events import EventClass, IntegrationEvent, codec, is_contract_name, meta

from .messages import error, warning
from .producers import is_produced, may_be_produced


def check_names(context: Context) -> Iterator[CheckMessage]:
    """E001: a contract has no name that is fit for one."""
    for contract in declared_contracts(context):
        name = meta(contract).name
        if name is None or not is_contract_name(name):
            yield error(
                "E001",
                f"The contract {path_of(contract)} has "
                + ("no name." if name is None else f"the unfit name {name!r}."),
                "Give it the name it has on the wire: class "
                f'{contract.__name__}(IntegrationEvent, name="{context.label}.what_happened"), '
                "in lower case, with a dot, at most 200 characters.",
            )


def check_owners(context: Context) -> Iterator[CheckMessage]:
    """E016: subscribers expect a contract from the context that its name begins with."""
    for contract in context.publishes:
        name = meta(contract).name
        if name and is_contract_name(name) and name.partition(".")[0] != context.label:
            yield error(
                "E016",
                f"The contract {path_of(contract)} has the name {name!r}, so subscribers expect it "
                f"from the context {name.partition('.')[0]!r}.",
                "Begin the name with the label of the context that publishes it: "
                f'"{context.label}.{name.partition(".")[2]}".',
            )


def declared_contracts(context: Context) -> list[type[IntegrationEvent]]:
    """Return the contracts that a context publishes, subscribes to or consumes."""
    consumed = [cls for each in context.all_consumers for cls in each.events.values()]
    contracts = [cls for cls in consumed if issubclass(cls, IntegrationEvent)]
    return list(dict.fromkeys([*context.publishes, *context.subscribes, *contracts]))


def check_publishers(context: Context) -> Iterator[CheckMessage]:
    """E003: another context, or the same one again, publishes one name and version."""
    mine = [_identity(contract) for contract in context.publishes]
    for contract in dict.fromkeys(context.publishes):
        name, version = _identity(contract)
        others = [
            other.label
            for other in contexts()
            if other is not context and (name, version) in map(_identity, other.publishes)
        ]
        if mine.count((name, version)) > 1:
            others.append(f"{context.label} itself, a second time")
        if others:
            yield error(
                "E003",
                f"Version {version} of {name!r} is also published by {', '.join(others)}.",
                "A contract has one owner. Let the others subscribe to it, or rename theirs.",
            )


def _identity(contract: EventClass) -> tuple[str | None, int]:
    return meta(contract).name, meta(contract).version


def check_producers(context: Context) -> Iterator[CheckMessage]:
    """E004, W010: a contract is published that nothing produces, or nothing that can be seen."""
    for contract in context.publishes:
        if is_produced(contract, context):
            continue
        if may_be_produced(contract, context):
            yield warning(
                "W010",
                f"{path_of(contract)} is in `publishes`, but no producer of it can be seen: no "
                "outbound translator is annotated to return it, and no loaded module imports it.",
                "Annotate what the translator returns; or import the contract at the top of the "
                "module that records it, and that module from one of the context's `modules`.",
            )
        else:
            yield error(
                "E004",
                f"{path_of(contract)} is in `publishes`, but nothing in the context produces it.",
                "Write an @outbound translator whose return annotation names it, record() it in "
                "a use case, or remove it from `publishes`.",
            )


def check_subscriptions(context: Context) -> Iterator[CheckMessage]:
    """E005: a subscription has no publisher. W001: it has no consumer."""
    published = {other.type_name(cls) for other in contexts() for cls in other.publishes}
    transport = settings().transports[context.transport]
    for contract in context.subscribes:
        name = context.type_name(contract)
        if name not in published and transport.backend == SCHEMES["local"]:
            yield error(
                "E005",
                f"The context subscribes to {name!r}, which no context of this project publishes, "
                f"and its transport {context.transport!r} is local.",
                "Correct the name, or add the contract to its owner's `publishes`. If the owner is "
                'deployed elsewhere, choose a transport that reaches it, such as "redis://…", in '
                'OUTBOX_INBOX["TRANSPORTS"].',
            )
        if not context.consumers_of(name):
            yield warning(
                "W001",
                f"The context subscribes to {name!r}, but it has no handler or translator for it.",
                "Mark a function with @handles or @inbound in one of its modules "
                "(ContextConfig.modules), or remove the contract from `subscribes`.",
            )


def check_versions(context: Context) -> Iterator[CheckMessage]:
    """E009: an older version of an event cannot be read.

    An event that the context owns (its domain events, what it publishes) needs an upcaster from
    every older version. Its view of a foreign contract needs them from the version on that is
    published in this project, or from the oldest one that it, or the publisher's class, has an
    upcaster for: this subscriber never received anything older.
    """
    foreign = {cls for cls in declared_contracts(context) if cls not in context.publishes}
    published = [(other, cls) for other in contexts() for cls in other.publishes]
    for cls in dict.fromkeys([*context.events.values(), *declared_contracts(context)]):
        known = {*context.upcasters_of(cls)}
        if cls in foreign:
            name = context.type_name(cls)
            theirs = [
                (meta(each).version, *by.upcasters_of(each))
                for by, each in published
                if by.type_name(each) == name
            ]
            oldest = min(chain(known, *theirs), default=meta(cls).version)
        else:
            oldest = 1
        missing = [number for number in range(oldest, meta(cls).version) if number not in known]
        if missing:
            yield error(
                "E009",
                f"{path_of(cls)} is version {meta(cls).version}, and an upcaster is missing: stored "
                f"messages of version {', '.join(map(str, missing))} cannot be read.",
                f"Write @upcasts({cls.__name__}, from_version={missing[0]}) on a function "
                "dict -> dict, beside the class or in one of the context's modules.",
            )


def check_stored_names(context: Context) -> Iterator[CheckMessage]:
    """E014: stored messages of two domain events could not be distinguished."""
    classes: dict[str, list[EventClass]] = defaultdict(list)
    for cls in context.own_events():
        classes[context.type_name(cls)].append(cls)
    for name, found in classes.items():
        if len(found) > 1:
            yield error(
                "E014",
                f"{' and '.join(map(path_of, found))} are both stored as {name!r}.",
                "Rename one of the classes, or give it a stored name of its own with name=.",
            )


def check_fields(context: Context) -> Iterator[CheckMessage]:
    """E015: an event has a field of a type that cannot be stored and read back exactly."""
    for cls in dict.fromkeys([*context.own_events(), *context.events.values()]):
        for problem in codec.field_problems(cls):
            yield error(
                "E015",
                f"{path_of(cls)} cannot be stored: {problem}.",
                f"A field may hold {codec.SUPPORTED}.",
            )
