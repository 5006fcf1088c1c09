"""``manage.py receive_messages``."""

from outbox_inbox.management.draining import DrainCommand


class Command(DrainCommand):
    """Receive until the transport has nothing more."""

    help = "Take messages from the transports into the inboxes, until there are no more."
    mover = "receive"
    done = "Received"
