"""Cases in which the server restarts, is unreachable, does not answer, or its answers are lost."""

from datetime import timedelta

import pytest

from outbox_inbox.conf.clock import monotonic
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.models import OutboxState, Queue
from outbox_inbox.testing import advance, movers

from . import scene
from .adapter import Adapter, needs
from .scene import BYSTANDER, PUBLISHER, SUBSCRIBER, SUBSCRIBERS

HASTE = timedelta(seconds=1)  # PUBLISH_TIMEOUT in cases that wait for it
SLACK = 4.0  # seconds that a call may take beyond its time-out, on a busy machine


class ServerCases(Adapter):
    """What holds when the server fails: nothing is lost, and no attempt is counted."""

    @needs("restart")
    def test_what_was_published_survives_a_restart_of_the_server(self) -> None:
        """It was confirmed, so it must be there."""
        scene.publish_numbers(1, 2, 3)
        self.restart()
        scene.check_all_after(4)
        assert scene.all_sent()

    @needs("receive", "restart")
    def test_a_restart_between_storing_and_confirming_repeats_nothing(self) -> None:
        """What the receiver had stored comes again before anything new, and is dropped."""
        scene.publish_numbers(1, 2, 3)
        with self.crashing("receive.after_commit"):
            scene.receive(limit=2)
        self.restart()
        scene.check_all_after(4)
        assert scene.inbox() == [1, 2, 3, 4]

    @needs("receive", "restart")
    def test_a_restart_while_a_receiver_has_messages_loses_none(self) -> None:
        """The receiver had read them and not stored them yet."""
        scene.publish_numbers(1, 2, 3)
        with self.crashing("receive.after_read"):
            scene.receive(limit=2)
        self.restart()
        scene.deliver_all()
        assert scene.inbox() == scene.heard() == scene.heard(BYSTANDER) == [1, 2, 3]

    @needs("stop")
    def test_a_server_that_is_down_at_the_start_only_delays_messages(self) -> None:
        """Recording works and the queues back off; when the server is up, everything arrives."""
        scene.subscribe()
        with self.stopped():
            self.continue_as_another()
            scene.record_numbers(1, 2, 3)
            assert scene.relay().done == 0
            assert scene.outage(Queue.OUTBOX, PUBLISHER)
            if self.can("receive"):
                with pytest.raises(TransportUnavailable):
                    scene.receive()
                assert scene.outage(Queue.INTAKE, SUBSCRIBER)
            scene.record_numbers(4)
        scene.deliver_all()
        assert scene.heard() == scene.heard(BYSTANDER) == [1, 2, 3, 4]
        assert scene.all_sent()
        assert not any(scene.outage(Queue.INTAKE, label) for label in SUBSCRIBERS)

    @needs("stop")
    def test_a_day_without_the_server_costs_no_attempt_and_no_order(self) -> None:
        """More back-offs than MAX_ATTEMPTS, while events are still recorded."""
        scene.subscribe()
        with self.stopped():
            for number in range(1, 25):
                scene.record_numbers(number)
                scene.relay()
                self._receive_in_vain()
                assert scene.outage(Queue.OUTBOX, PUBLISHER)
                advance(timedelta(hours=1, seconds=1))
            assert set(scene.outbox("state", "attempts")) == {(OutboxState.PENDING, 0)}
        scene.deliver_all()
        assert scene.heard() == scene.heard(BYSTANDER) == list(range(1, 25))
        assert scene.all_sent()

    @needs("hang")
    def test_a_silent_server_is_given_up_in_time(self) -> None:
        """A call is one attempt of at most PUBLISH_TIMEOUT: it keeps a transaction open."""
        with self.configured(PUBLISH_TIMEOUT=HASTE):
            scene.subscribe()
            scene.record_numbers(1)
            scene.deliver_all()
            scene.record_numbers(2)
            with self.hanging():
                begin = monotonic()
                assert scene.relay().done == 0
                self._receive_in_vain()
                took = monotonic() - begin
            # At most three calls: one to publish, two to receive.
            assert took < 3 * HASTE.total_seconds() + SLACK, f"it took {took:.1f} s"
            assert scene.outage(Queue.OUTBOX, PUBLISHER)
            scene.deliver_all()
            assert scene.heard() == scene.heard(BYSTANDER) == [1, 2]
            assert scene.all_sent()

    @needs("lose_answers")
    def test_a_batch_whose_confirmation_was_lost_is_handled_once(self) -> None:
        """It arrived, is sent again, and is dropped; the order is kept."""
        with self.configured(PUBLISH_TIMEOUT=HASTE):
            scene.subscribe()
            scene.record_numbers(1)
            scene.deliver_all()
            scene.record_numbers(2, 3, 4)
            with self.losing_answers():
                assert scene.relay().done == 0
            assert scene.outage(Queue.OUTBOX, PUBLISHER)
            for label in SUBSCRIBERS:
                self._receive_now(label)
                assert scene.inbox(label) == [1, 2, 3, 4]
            scene.record_numbers(5)
            scene.deliver_all()
            for label in SUBSCRIBERS:
                assert scene.inbox(label) == scene.heard(label) == [1, 2, 3, 4, 5]
            assert scene.all_sent()

    @needs("receive", "lose_acknowledgements")
    def test_an_acknowledgement_whose_answer_was_lost_repeats_nothing(self) -> None:
        """Whether it arrived or not."""
        with self.configured(PUBLISH_TIMEOUT=HASTE):
            scene.subscribe()
            scene.record_numbers(1, 2, 3)
            scene.relay()
            with self.losing_acknowledgements():
                self._receive_in_vain()
            scene.record_numbers(4)
            scene.deliver_all()
            assert scene.inbox() == scene.heard() == scene.heard(BYSTANDER) == [1, 2, 3, 4]

    def _receive_in_vain(self) -> None:
        """Receive while the server may not answer; nothing happens while the partition backs off."""
        try:
            scene.receive()
        except TransportUnavailable:
            assert scene.outage(Queue.INTAKE, SUBSCRIBER)

    def _receive_now(self, label: str) -> None:
        movers.come_due()
        try:
            scene.receive(label)
        except TransportUnavailable:  # the failure has broken this connection as well
            movers.come_due()
            scene.receive(label)
