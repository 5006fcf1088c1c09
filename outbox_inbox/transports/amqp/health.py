"""What is wrong with a RabbitMQ server or its queues, before it costs a message."""

from collections.abc import Iterator, Sequence

from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import TransportUnavailable

from .connection import Connection
from .options import Options
from .reconnector import Reconnector
from .topology import QUORUM_SINCE, Topology


def problems(
    reconnector: Reconnector, topology: Topology, options: Options, users: Sequence[Context]
) -> Iterator[str]:
    """Yield what is wrong, each as a sentence with a way out."""
    with reconnector.connection() as connection:
        found = list(_server_problems(connection, options))
    yield from found
    for context in users:
        with reconnector.connection() as connection:
            channel = connection.open_channel()
            exists = topology.queue_counts(channel, context) is not None
            channel.close()
        if not exists:
            continue
        try:  # to declare it again, which fails unless it is as it should be
            with reconnector.connection() as connection:
                topology.declare_subscriber(connection.open_channel(), context)
        except TransportUnavailable as problem:
            yield str(problem)


def _server_problems(connection: Connection, options: Options) -> Iterator[str]:
    properties = connection.server_properties
    product = properties.get("product")
    if product != "RabbitMQ":
        yield f"The server is {product}, not RabbitMQ: this transport is untested with it"
    if not (properties.get("capabilities") or {}).get("publisher_confirms"):
        yield "The server has no publisher confirms, so messages can get lost; use RabbitMQ"
    if options.queue_type == "quorum" and connection.version < QUORUM_SINCE:
        version = ".".join(map(str, connection.version))
        yield (
            f"RabbitMQ {version} has no quorum queues, so its queues are classic ones on one node; "
            'upgrade to 3.8 or later, or set QUEUE_TYPE to "classic" to accept that'
        )
