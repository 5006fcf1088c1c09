"""Checks of streams: whether the database can serve them, and of the read models kept from them."""

from collections import Counter
from collections.abc import Iterator

from django.core.checks import CheckMessage
from django.db import connections

from outbox_inbox.conf.section import suggestion
from outbox_inbox.contexts import Consumer, Context, ReadModel
from outbox_inbox.contexts.consumers import path_of
from outbox_inbox.contexts.declaring import label_of, models_of
from outbox_inbox.events import meta
from outbox_inbox.queues.statements import checkpoints

from .messages import error


def check_source(context: Context) -> Iterator[CheckMessage]:
    """E010: the relay could not know which events of the stream it has sent."""
    connection = connections[context.database]
    if context.source == "stream" and not checkpoints.supports_subscriptions(connection):
        yield error(
            "E010",
            f'The context has source = "stream", and its database {context.database!r} is '
            f"{connection.vendor}, where a stream cannot be followed without losing events.",
            'Set source to "outbox", or keep the context on PostgreSQL or SQLite.',
        )


def check_read_models(context: Context) -> Iterator[CheckMessage]:
    """E010, E011, E018, E002: a read model, or a function that keeps it, is declared wrongly."""
    connection = connections[context.database]
    if context.read_models and not checkpoints.supports_subscriptions(connection):
        yield error(
            "E010",
            f"The read models {', '.join(context.read_models)} are kept from the stream, and the "
            f"database {context.database!r} is {connection.vendor}, where a stream cannot be "
            "followed without losing events: they are never updated.",
            "Keep them by handlers, or keep the context on PostgreSQL or SQLite.",
        )
    for name, count in Counter(each.name for each in context.all_read_models).items():
        if count > 1:
            yield error(
                "E011",
                f"{count} projections have the name {name!r}; only one of them would run.",
                "Give each class a name of its own. Functions that go into one model share it.",
            )
    for read_model in context.all_read_models:
        yield from _check_target(context, read_model)
        for consumer in read_model.consumers:
            yield from _check_events(context, consumer)


def _check_target(context: Context, read_model: ReadModel) -> Iterator[CheckMessage]:
    if read_model.projection is None and not read_model.models:
        known = sorted(str(each._meta.model_name) for each in models_of(context.label))
        wanted = read_model.name.replace("_", "").lower()
        yield error(
            "E018",
            f"@projects(..., into={read_model.name!r}) does not name a model of the context's app"
            f"{suggestion(wanted, known)}.",
            'Name a model, as in into="country_board" for CountryBoard, or write a class derived '
            "from Projection.",
        )


def _check_events(context: Context, consumer: Consumer) -> Iterator[CheckMessage]:
    for cls in consumer.events.values():
        is_own = label_of(cls.__module__) == context.label
        if not (context.publishes_class(cls) if meta(cls).kind == "integration" else is_own):
            yield error(
                "E002",
                f"The projection {consumer.name} takes {path_of(cls)}, which is never in the stream of "
                f"{context.label!r}.",
                "A stream has the context's own events. Contracts of other contexts come to the "
                "inbox: keep the read model by a handler.",
            )
