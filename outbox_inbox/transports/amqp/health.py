"""What can be seen from outside that is wrong with a RabbitMQ, before it costs a message."""

from collections.abc import Iterator, Sequence

from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import TransportUnavailable

from .connection import Connection
from .link import Link
from .options import Options
from .topology import QUORUM_SINCE, Topology


def problems(
    link: Link, topology: Topology, options: Options, owners: Sequence[Context], seconds: float
) -> Iterator[str]:
    """Yield what is wrong, each as a sentence with a way out.

    Raises:
        TransportUnavailable: the server cannot be reached.
    """
    with link.within(seconds) as connection:
        found = list(_of_the_server(connection, options))
    yield from found
    for context in owners:
        with link.within(seconds) as connection:
            channel = connection.open_channel()
            made = topology.ready(channel, context) is not None
            channel.close()
        if made:
            yield from _of_the_queue(link, topology, context, seconds)


def _of_the_server(connection: Connection, options: Options) -> Iterator[str]:
    properties = connection.server_properties
    product = properties.get("product")
    if product != "RabbitMQ":
        yield f"The server is {product}, not RabbitMQ: nothing here was tried with it"
    if not (properties.get("capabilities") or {}).get("publisher_confirms"):
        yield "The server offers no publisher confirms: messages can get lost; use RabbitMQ"
    if options.queue_type == "quorum" and connection.version < QUORUM_SINCE:
        version = ".".join(map(str, connection.version))
        yield (
            f"RabbitMQ {version} has no quorum queues, so its queues are classic ones on one node: "
            'upgrade to 3.8 or later, or set QUEUE_TYPE to "classic" to say that you know'
        )


def _of_the_queue(
    link: Link, topology: Topology, context: Context, seconds: float
) -> Iterator[str]:
    """Declare once more what is there, which tells whether it is what it should be."""
    try:
        with link.within(seconds) as connection:
            topology.declare_subscriber(connection.open_channel(), context)
    except TransportUnavailable as problem:
        yield str(problem)
