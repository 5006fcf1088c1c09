"""Whether anything in a context can produce a contract that it publishes.

Translators say so by their return annotations. A use case or process that records the contract
itself shows it by importing it. Beyond that nothing is known: code may import inside a function,
or in a module that this process never loads.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

from django.apps import apps

from outbox_inbox.contexts import ConsumerFunction, Context
from outbox_inbox.contexts.consumers import definitions
from outbox_inbox.events import DomainEvent, EventClass, IntegrationEvent
from outbox_inbox.events.marks import OutboundMark, mark_of

from .signatures import returned_classes

_NO_PRODUCERS = {"__init__", "apps", "migrations", "tests"}


def is_produced(contract: EventClass, context: Context) -> bool:
    """Return whether a translator returns the contract, or a loaded module has imported it."""
    home = sys.modules.get(contract.__module__, contract)
    return any(
        contract in (returned_classes(each.call) or ()) for each in _translators(context)
    ) or any(
        value is contract or value is home
        for name in _module_names(contract, context)
        if name in sys.modules
        for value in list(vars(sys.modules[name]).values())
    )


def may_be_produced(contract: EventClass, context: Context) -> bool:
    """Return whether there is code that could produce the contract without showing it.

    That is an outbound translator without a return annotation, a module that is not loaded, or a
    loaded one with code other than translators and events. The module or package that declares
    the contract, ``apps.py``, migrations and tests do not count.
    """
    if any(returned_classes(each.call) is None for each in _translators(context)):
        return True
    if not any(Path(apps.get_app_config(context.label).path).rglob("*.py")):
        return True  # installed without source files, so its modules are not known
    names = _module_names(contract, context)
    return any(
        name not in sys.modules or definitions([sys.modules[name]], _is_code) for name in names
    )


def _translators(context: Context) -> Iterator[ConsumerFunction]:
    return (
        function
        for each in context.all_consumers
        if each.kind == "outbound"
        for function in each.functions
    )


def _module_names(contract: EventClass, context: Context) -> Iterator[str]:
    root = Path(apps.get_app_config(context.label).path)
    declaring = contract.__module__.removeprefix(f"{context.app}.").partition(".")[0]
    for file in sorted(root.rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        if parts[0] not in {*_NO_PRODUCERS, declaring}:
            yield ".".join((context.app, *parts)).removesuffix(".__init__")


def _is_code(value: object) -> bool:
    if isinstance(value, FunctionType):
        return not isinstance(mark_of(value), OutboundMark)
    return isinstance(value, type) and not issubclass(value, DomainEvent | IntegrationEvent)
