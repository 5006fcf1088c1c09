"""The Celery application: workers that are woken up, and a beat as the floor.

Tasks carry a wake-up, never a message: the queues are tables, so a lost, late or doubled task
does no harm. Nothing here runs unless somebody starts a worker.
"""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

app = Celery("project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@app.on_after_finalize.connect
def schedule_beat(sender: Celery, **_: object) -> None:
    """Let beat tick for every context; imported here because tasks need the app registry."""
    from outbox_inbox.tasks import beat_schedule

    sender.conf.beat_schedule = beat_schedule()
