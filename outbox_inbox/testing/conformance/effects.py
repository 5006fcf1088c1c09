"""The committed effects of the handlers of the subscribing contexts."""

from functools import partial
from typing import NamedTuple

from django.db import transaction

from outbox_inbox import Envelope
from outbox_inbox.contexts import get_context


class Heard(NamedTuple):
    """One effect of a handler."""

    label: str
    topic: str
    number: int
    envelope: Envelope


effects: list[Heard] = []
"""All effects, in the order of their commits; the suite empties it before each test."""


def note_effect(label: str, topic: str, number: int, envelope: Envelope) -> None:
    """Append an effect when the transaction of the handler is committed."""
    effect = Heard(label, topic, number, envelope)
    transaction.on_commit(partial(effects.append, effect), using=get_context(label).database)
