"""``manage.py drain_inbox``: dispatch until the inbox is drained."""

from outbox_inbox.management.draining import DrainCommand
from outbox_inbox.models import Queue


class Command(DrainCommand):
    help = "Handle all deliveries that are due in the inboxes, and exit."
    mover = "dispatch"
    queue = Queue.INBOX
    done = "Handled"
    noun, nouns = "delivery", "deliveries"
