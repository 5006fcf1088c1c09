"""``manage.py drain_outbox``: relay until the outbox is drained."""

from outbox_inbox.management.draining import DrainCommand
from outbox_inbox.models import Queue


class Command(DrainCommand):
    help = "Send all messages that are due in the outboxes, and exit."
    mover = "relay"
    queue = Queue.OUTBOX
    done = "Sent"
