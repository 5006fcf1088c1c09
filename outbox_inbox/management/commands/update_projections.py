"""``manage.py update_projections``: read the streams until the read models are up to date."""

from outbox_inbox.management.draining import DrainCommand


class Command(DrainCommand):
    help = "Bring the read models up to date with the streams of their contexts, and exit."
    mover = "project"
    done = "Handled"
    noun, nouns = "event", "events"
