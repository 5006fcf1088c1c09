"""Check of what becomes of the domain events that inbound translators return."""

from collections.abc import Iterator

from django.core.checks import CheckMessage

from outbox_inbox.contexts import Context
from outbox_inbox.contexts.consumers import path_of
from outbox_inbox.contexts.declaring import label_of
from outbox_inbox.events import DomainEvent

from .messages import warning
from .signatures import returned_classes


def check_translated(context: Context) -> Iterator[CheckMessage]:
    """W015: an event goes from a translator into the inbox, where no consumer takes it."""
    translators = [
        function
        for consumer in context.all_consumers
        if consumer.kind == "inbound"
        for function in consumer.functions
    ]
    for function in translators:
        for cls in sorted(returned_classes(function.call) or (), key=path_of):
            # Whether it may return this class at all is E008.
            own = issubclass(cls, DomainEvent) and label_of(cls.__module__) == context.label
            if own and not context.consumers_of(context.type_name(cls)):
                yield warning(
                    "W015",
                    f"{function.name} returns {path_of(cls)}, which no handler, translator or process "
                    "of the context takes: nothing happens when it is translated.",
                    f"Mark a function with @handles({cls.__name__}) in one of the context's modules, "
                    "or remove the translator. Projections do not take it: they follow the stream.",
                )
