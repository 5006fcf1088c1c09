import pickle
from datetime import timedelta
from uuid import UUID

import pytest
from django.core.exceptions import ImproperlyConfigured

from outbox_inbox import (
    InvalidEvent,
    NotInAtomicBlock,
    OutboxInboxError,
    PermanentError,
    exceptions,
)

ERRORS = [
    error
    for error in vars(exceptions).values()
    if isinstance(error, type) and error.__module__ == exceptions.__name__
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_one_root(error):
    """Every error of the app can be caught as OutboxInboxError."""
    assert issubclass(error, OutboxInboxError)


def test_docstring_is_the_message():
    """An error raised without a message explains itself."""
    assert str(NotInAtomicBlock()).startswith("An event was recorded outside a transaction")


def test_own_message():
    """An error raised with a message says that."""
    assert str(NotInAtomicBlock("record() was called too early")) == "record() was called too early"


@pytest.mark.parametrize(
    ("error", "permanent"),
    [
        (exceptions.UnreadableMessage, True),
        (exceptions.HopLimitExceeded, True),
        (exceptions.NewerVersion, False),
        (exceptions.TransportUnavailable, False),
        (exceptions.MessageRefused, False),
    ],
)
def test_permanent_or_not(error, permanent):
    """Only what no further attempt can solve is permanent: not a deployment, not an outage."""
    assert issubclass(error, PermanentError) is permanent


def test_wrong_settings_are_known_to_django():
    """A wrong setting is what Django calls improperly configured."""
    assert issubclass(exceptions.SettingsError, ImproperlyConfigured)


@pytest.mark.parametrize(
    ("error", "attributes", "text"),
    [
        (
            InvalidEvent("Placed", ["total: NaN"]),
            {"event": "Placed", "errors": ["total: NaN"]},
            "Placed: total: NaN",
        ),
        (
            exceptions.RebuildFailed("it failed", 7, "ordering.Placed", UUID(int=1)),
            {"position": 7, "type": "ordering.Placed", "message_id": UUID(int=1)},
            "it failed",
        ),
        (
            exceptions.TransportUnavailable("no answer", longest=timedelta(seconds=5)),
            {"longest": timedelta(seconds=5)},
            "no answer",
        ),
    ],
)
def test_attributes_survive_pickling(error, attributes, text):
    """An error keeps its attributes on the way out of another process."""
    again = pickle.loads(pickle.dumps(error))
    assert (vars(again), str(again)) == (attributes, text)
