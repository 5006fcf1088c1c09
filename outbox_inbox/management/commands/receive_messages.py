"""``manage.py receive_messages``: receive until the transport has no more messages."""

from outbox_inbox.management.draining import DrainCommand
from outbox_inbox.models import Queue


class Command(DrainCommand):
    help = "Receive all messages that the transports have, into the inboxes, and exit."
    mover = "receive"
    queue = Queue.INTAKE
    done = "Received"
