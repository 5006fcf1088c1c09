"""What Celery's tasks and the movers agree on. Settings import it, so it imports nothing itself."""

from typing import Literal

MoverName = Literal["relay", "receive", "dispatch", "project"]

TASKS: dict[MoverName, str] = {
    "relay": "outbox_inbox.relay_outbox",
    "receive": "outbox_inbox.receive_messages",
    "dispatch": "outbox_inbox.dispatch_inbox",
    "project": "outbox_inbox.update_projections",
}
"""Mover -> the name of the Celery task that calls it."""

TIME_LIMITS: set[type[Exception]] = set()
"""Exceptions by which whatever runs a mover ends it at any place; Celery's is added by ``tasks``."""
