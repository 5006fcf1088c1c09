"""``manage.py drain_outbox``."""

from outbox_inbox.management.draining import DrainCommand
from outbox_inbox.models import Queue


class Command(DrainCommand):
    """Relay until the outbox is empty."""

    help = "Send what is due in the outboxes, until nothing is left to be sent now."
    mover = "relay"
    queue = Queue.OUTBOX
    done = "Sent"
