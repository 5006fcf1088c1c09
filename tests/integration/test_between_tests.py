"""The tests of a project: none of them meets what another one did, and Django has taken back."""

import unittest
from uuid import UUID

import pytest
from django.db import connection
from django.test import TestCase, TransactionTestCase, override_settings

from outbox_inbox.models import InboxMessage
from outbox_inbox.testing import drain
from tests.depot.models import Pick
from tests.shop.contracts import Sold
from tests.shop.events import Noted
from tests.support.movers import put, receive, relay, run_all

MEMORY = override_settings(OUTBOX_INBOX={"TRANSPORTS": {"default": "memory://"}})


def picked():
    """Return the numbers of the orders that the depot has handled."""
    return list(Pick.objects.filter(consumer="pick").values_list("number", flat=True))


class Publishes:
    """Two tests of a test class; the first is of the shop alone, so nothing receives its message."""

    def test_1_publishes(self):
        """The relay has published it."""
        put(Sold(order="a", number=1))
        assert relay().done == 1

    def test_2_gets_its_own(self):
        """Not the message of the first test."""
        put(Sold(order="a", number=2))
        drain()
        assert picked() == [2]


class Receives:
    """A message of the whole class is received in each test."""

    @classmethod
    def setUpTestData(cls):
        put(Sold(order="a", number=1))
        relay()

    def test_1_receives(self):
        """The acknowledgement is rolled back with the inbox."""
        assert receive().done == 1

    def test_2_receives_again(self):
        """As its database has not received anything."""
        assert receive().done == 1


class Repeats:
    """Each test records an event with the same id, and the database gives its rows the same numbers."""

    def record_and_drain(self):
        """Have it handled."""
        put(Noted(order="a", number=1), message_id=UUID(int=7))
        assert drain().failed == 0

    test_1_records = record_and_drain
    test_2_records_the_same = record_and_drain


def outcome_of(*bases, **attributes):
    """Run the tests of a class as Django's runner does; return what failed in them, or their number."""
    kind = MEMORY(type("Tests", bases, attributes))
    loaded = unittest.defaultTestLoader.loadTestsFromTestCase(kind)
    result = unittest.TestResult()
    loaded.run(result)
    return [text for _, text in result.failures + result.errors] or result.testsRun


@pytest.mark.django_db
def test_a_test_case_leaves_no_message_to_the_next_test():
    """Its transaction is rolled back, and what was published in it is forgotten."""
    assert outcome_of(Publishes, TestCase) == 2


@pytest.mark.django_db
def test_what_was_published_for_a_whole_class_is_received_in_each_of_its_tests():
    """An acknowledgement counts as long as the inbox has the message."""
    assert outcome_of(Receives, TestCase) == 2


@pytest.mark.usefixtures("committed")
@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"reset_sequences": True},
        {"available_apps": ["outbox_inbox", "tests.shop", "tests.depot"]},
        {"serialized_rollback": True},
    ],
    ids=lambda attributes: "".join(attributes) or "as it is",
)
def test_a_transaction_test_case_leaves_no_message_to_the_next_test(attributes, monkeypatch):
    """Its tables are emptied, and what was published is forgotten."""
    if "serialized_rollback" in attributes:
        text = connection.creation.serialize_db_to_string()
        monkeypatch.setattr(connection, "_test_serialized_contents", text, raising=False)
    assert outcome_of(Publishes, TransactionTestCase, **attributes) == 2


@pytest.mark.usefixtures("committed")
def test_what_is_published_outside_of_a_test_case_stays(settings):
    """As with a broker: a subscriber that comes later gets it, although transactions have ended."""
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": "memory://"}}
    put(Sold(order="a", number=1))
    relay()
    run_all()
    assert InboxMessage.objects.filter(context="depot", type="shop.sold").count() == 1


@pytest.mark.django_db
def test_a_delivery_of_the_same_ids_was_not_done_in_another_test():
    """The process remembers what it has handled, to notice a ROLLBACK that Django does not see."""
    assert outcome_of(Repeats, TestCase) == 2


@pytest.mark.usefixtures("committed")
def test_a_delivery_of_the_same_ids_was_not_done_before_the_tables_were_emptied():
    """As their ids begin again."""
    assert outcome_of(Repeats, TransactionTestCase, reset_sequences=True) == 2
