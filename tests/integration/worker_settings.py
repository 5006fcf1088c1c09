"""The settings of real Celery processes: those of the acceptance tests, on a queue of their own."""

import os

from tests.acceptance.settings import *  # noqa: F403

CELERY_TASK_DEFAULT_QUEUE = os.environ["TEST_QUEUE"]
