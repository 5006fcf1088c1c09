"""Messages as a transport hands them over, and a transport that holds some."""

from uuid import UUID

from outbox_inbox.models import InboxMessage
from outbox_inbox.transports import ReceivedMessage

from .movers import receive
from .script import playing


class Queued:
    """Plays the receiving side of a transport: what it holds comes until it is acknowledged."""

    def __init__(self, *messages):
        self.messages = list(messages)
        self.acknowledged = []

    def receive(self, context, limit):
        """Return what is left, oldest first."""
        if context.label != "depot":
            return ()
        return [each for each in self.messages if each not in self.acknowledged][:limit]

    def acknowledge(self, context, messages):
        """Take messages off."""
        self.acknowledged += messages

    def playing(self):
        """Give the parts to the wire."""
        return playing(receive=self.receive, acknowledge=self.acknowledge)


def arriving(number=1, data=None, receipt=None, **changed):
    """Return a message as a transport hands it over; an attribute that is None is left out."""
    given = {
        "specversion": "1.0",
        "source": "/shop",
        "id": str(UUID(int=number)),
        "type": "shop.sold.v1",
        "subject": "a",
        "partitionkey": "a",
        "time": "2030-01-02T03:04:05.678000Z",
        "correlationid": str(UUID(int=77)),
        "causationid": str(UUID(int=78)),
        "hops": "3",
        "headers": '{"who":"ÿ"}',
        **changed,
    }
    return ReceivedMessage(
        receipt=number if receipt is None else receipt,
        attributes={name: value for name, value in given.items() if value is not None},
        data=payload(number) if data is None else data,
    )


def payload(number):
    """Return the data of a step."""
    return f'{{"number":{number},"order":"a"}}'.encode()


def bring(*messages):
    """Have messages received by the depot, all of them in one batch; return the transport."""
    queued = Queued(*messages)
    with queued.playing():
        receive()
    return queued


def inbox(**which):
    """Return the ids of messages in the inbox, as numbers, in order."""
    rows = InboxMessage.objects.filter(**which).order_by("id")
    return [int(each) for each in rows.values_list("message_id", flat=True)]
