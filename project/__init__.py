"""The example project: the settings, URLs and processes of its two contexts."""

from project.celery import app as celery_app

__all__ = ["celery_app"]
