"""The example project: the settings, the addresses and the processes around its two contexts."""

from project.celery import app as celery_app

__all__ = ["celery_app"]
