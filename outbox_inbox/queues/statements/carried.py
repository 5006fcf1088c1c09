"""What a transport carries of a message, in SQL: payload and headers of an integration event.

The relay learns how large each message of a batch is, and gets the texts of the small ones with it.
The large ones it reads afterwards, as many as it sends: most of a batch that is too large for its
transport would otherwise be read again at every try.
"""

from typing import NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from .dialects import dialect


class Reading(NamedTuple):
    """How the texts of messages are read, in SQL.

    Fields:
        text: payload or headers; ``{}`` stands for the column.
        size: the bytes that a transport carries; 0 for a domain event.
    """

    text: str
    size: str


WHOLE = Reading(text="{}", size="NULL")
"""All texts, whether a transport carries them or not."""


def carried(connection: BaseDatabaseWrapper, alias: str, largest: int | None) -> Reading:
    """Return how the relay reads messages.

    ``largest``: without the texts of a message that has more bytes; None: without any.
    """
    octets = dialect(connection).octets
    size = f"{octets.format(f'{alias}.payload')} + {octets.format(f'{alias}.headers')}"
    sent = f"{alias}.kind = 'integration'"
    return Reading(
        text="NULL"
        if largest is None
        else f"CASE WHEN {sent} AND {size} <= {largest:d} THEN {{}} END",
        size=f"CASE WHEN {sent} THEN {size} ELSE 0 END",
    )
