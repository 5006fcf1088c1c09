"""The suite notices what is wrong with a transport: each of these has one fault, and is found out."""

from typing import ClassVar

import pytest

from outbox_inbox.testing.conformance import ABILITIES, TransportConformance
from outbox_inbox.testing.conformance.publisher.contracts import Whispered
from outbox_inbox.transports.memory import MemoryTransport

pytestmark = pytest.mark.usefixtures("committed")


class Suite(TransportConformance):
    """The suite for a transport within this process; not collected by itself."""

    cannot: ClassVar = dict.fromkeys(set(ABILITIES) - {"receive", "keep", "refuse"}, "not here")

    def __init__(self, backend):
        self.backend = backend

    def transport(self):
        """Return the entry of the backend."""
        return {"BACKEND": f"{self.backend.__module__}.{self.backend.__qualname__}"}

    def refused(self):
        """Return what `broken.Pushing` refuses."""
        return Whispered(topic="refused", number=2)


FOUND_OUT = {
    "Early": (
        "test_a_receiver_that_dies_gets_again_what_it_had_not_confirmed",
        "receive.after_read",
    ),
    "Hasty": ("test_what_is_pending_comes_before_what_is_new",),
    "Leaky": ("test_messages_of_a_key_arrive_in_order_and_once",),
    "Backwards": ("test_messages_of_a_key_arrive_in_order_and_once",),
    "Shared": ("test_each_of_two_subscribers_gets_each_message",),
    "Lossy": ("test_every_character_arrives",),
    "Greedy": ("test_a_limit_is_kept",),
    "Denying": ("test_has_messages_is_never_wrongly_false",),
    "Selective": ("test_a_message_without_a_subscriber_yet_is_not_lost",),
    "Pushing": ("test_a_refused_message_blocks_its_key_and_nothing_else",),
}


@pytest.mark.parametrize("fault", FOUND_OUT)
def test_a_transport_with_a_fault_is_found_out(fault):
    """By the case that is about it."""
    from tests.support import broken

    case, *arguments = FOUND_OUT[fault]
    suite = Suite(getattr(broken, fault))
    with suite.staged(None), pytest.raises(AssertionError):
        getattr(suite, case)(*arguments)


@pytest.mark.parametrize("fault", sorted(set(FOUND_OUT) - {"Pushing"}))
def test_these_cases_let_a_transport_without_the_fault_pass(fault):
    """It is the fault that is found, not the transport."""
    case, *arguments = FOUND_OUT[fault]
    suite = Suite(MemoryTransport)
    with suite.staged(None):
        getattr(suite, case)(*arguments)


def test_an_ability_that_is_neither_there_nor_declared_is_a_failure():
    """Nothing is left out by mistake."""

    class Silent(Suite):
        cannot: ClassVar = {"outlive": "it ends with this process"}

    suite = Silent(MemoryTransport)
    with suite.staged(None), pytest.raises(NotImplementedError):
        suite.test_what_was_published_survives_a_restart_of_the_server()


def test_a_declared_inability_is_told_with_its_reason():
    """The case is skipped, and pytest prints why."""
    suite = Suite(MemoryTransport)
    with (
        suite.staged(None),
        pytest.raises(pytest.skip.Exception, match="it cannot restart, as declared: not here"),
    ):
        suite.test_what_was_published_survives_a_restart_of_the_server()


def test_a_misspelt_ability_is_found_out():
    """Otherwise it would excuse nothing, or the wrong thing."""

    class Misspelt(Suite):
        cannot: ClassVar = {"restrat": "it ends with this process"}

    with pytest.raises(AssertionError):
        Misspelt(MemoryTransport).test_a_missing_ability_is_declared_with_a_reason()
