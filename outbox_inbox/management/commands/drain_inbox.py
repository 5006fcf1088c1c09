"""``manage.py drain_inbox``."""

from outbox_inbox.management.draining import DrainCommand
from outbox_inbox.models import Queue


class Command(DrainCommand):
    """Dispatch until the inbox is empty."""

    help = "Handle what is due in the inboxes, until nothing is left to be handled now."
    mover = "dispatch"
    queue = Queue.INBOX
    done = "Handled"
    noun, nouns = "delivery", "deliveries"
