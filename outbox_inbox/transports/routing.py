"""Which movers to wake up after a relay, so that messages do not wait for the next poll."""

from collections.abc import Iterator

from outbox_inbox.contexts import Context, contexts
from outbox_inbox.queues.wakeup import MoverName

from . import transport


def receivers(source: Context) -> Iterator[tuple[Context, MoverName]]:
    """Yield the contexts and movers that may have work after a relay of a context."""
    yield source, "dispatch"
    published = {source.type_name(contract) for contract in source.publishes}
    for receiver in contexts():
        if published & receiver.subscribed:
            direct = transport(source.transport).writes_inboxes
            yield receiver, "dispatch" if direct else "receive"
