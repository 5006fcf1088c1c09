"""Which contexts may have something to do after a relay."""

from collections.abc import Iterator

from outbox_inbox.contexts import Context, contexts
from outbox_inbox.queues.wakeup import MoverName

from . import transport


def receivers(source: Context) -> Iterator[tuple[Context, MoverName]]:
    """Yield who may have something to do after a relay of a context, and what."""
    yield source, "dispatch"
    published = {source.type_name(contract) for contract in source.publishes}
    for receiver in contexts():
        if published & receiver.subscribed:
            direct = transport(source.transport).writes_inboxes
            yield receiver, "dispatch" if direct else "receive"
