"""The Celery application: workers that are woken up by commits, and by beat at the latest.

Tasks carry a wake-up, never a message: the queues are tables, so a lost, late or duplicated task
does no harm. It is only used if a worker is started.
"""

import os

from celery import Celery

from outbox_inbox.tasks import beat_schedule

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

app = Celery("project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.conf.beat_schedule = beat_schedule()
