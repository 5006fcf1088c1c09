"""Columns of raw rows as Python values: a raw cursor converts neither times nor UUIDs."""

from datetime import UTC, datetime, tzinfo
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone


def as_datetime(connection: BaseDatabaseWrapper, value: Any) -> datetime:
    """Return a time stamp of a raw row as an aware datetime in UTC."""
    stamp = datetime.fromisoformat(value) if isinstance(value, str) else value
    if stamp.tzinfo is UTC:
        return stamp
    if timezone.is_naive(stamp):
        stamp = timezone.make_aware(stamp, stored_zone(connection))
    return stamp.astimezone(UTC)


def stored_zone(connection: BaseDatabaseWrapper) -> tzinfo:
    """Return the zone of the naive time stamps in a database."""
    zone = connection.timezone if settings.USE_TZ else None
    return zone or timezone.get_default_timezone()


def stored_time(value: datetime) -> datetime:
    """Return an aware datetime as Django's own rows have it: without USE_TZ it is naive."""
    return value if settings.USE_TZ else timezone.make_naive(value, timezone.get_default_timezone())


def as_uuid(value: Any) -> UUID:
    """Return a column of a raw row as a UUID."""
    return value if isinstance(value, UUID) else UUID(value)


def as_uuid_or_none(value: Any) -> UUID | None:
    """Return a column of a raw row that may be null as a UUID."""
    return None if value is None else as_uuid(value)
