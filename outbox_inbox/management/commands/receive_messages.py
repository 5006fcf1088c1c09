"""``manage.py receive_messages``."""

from outbox_inbox.management.draining import DrainCommand
from outbox_inbox.models import Queue


class Command(DrainCommand):
    """Receive until the transport has no more messages."""

    help = "Receive all messages that the transports have, into the inboxes, and exit."
    mover = "receive"
    queue = Queue.INTAKE
    done = "Received"
