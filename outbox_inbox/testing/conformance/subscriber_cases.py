"""Cases with slow and late subscribers, and with refused messages."""

from outbox_inbox.models import OutboxState, Queue
from outbox_inbox.testing import movers

from . import scene
from .adapter import Adapter, needs
from .publisher.contracts import Said
from .scene import BYSTANDER, PUBLISHER, SUBSCRIBER


class SubscriberCases(Adapter):
    """What holds for a subscriber, whatever the others do."""

    def test_a_slow_subscriber_delays_no_other_and_misses_nothing(self) -> None:
        """It gets everything later, in order, long after the others have acknowledged it."""
        scene.subscribe()
        last = 0
        for _ in range(15):
            scene.record_numbers(*range(last + 1, last + 101))
            last += 100
            scene.relay()
            scene.receive(SUBSCRIBER)
            movers.dispatch(SUBSCRIBER)
            assert scene.heard(SUBSCRIBER)[-1:] == [last]
        assert scene.heard(BYSTANDER) == []
        scene.deliver_all()
        assert scene.heard(BYSTANDER) == scene.heard(SUBSCRIBER) == list(range(1, last + 1))

    def test_a_message_without_a_subscriber_yet_is_not_lost(self) -> None:
        """It waits for the first subscriber, in the transport or in the outbox."""
        scene.record_numbers(1, 2, 3)
        scene.relay()
        if not self.can("keep"):
            assert set(scene.outbox()) <= {OutboxState.PENDING, OutboxState.WAITING}
        scene.deliver_all(SUBSCRIBER)
        assert scene.heard(SUBSCRIBER) == [1, 2, 3]

    @needs("keep")
    def test_a_later_subscriber_gets_all_that_no_other_has_read(self) -> None:
        """Everything was published before the first subscription."""
        scene.record_numbers(1, 2, 3)
        scene.relay()
        scene.subscribe()
        scene.deliver_all()
        assert scene.heard(SUBSCRIBER) == scene.heard(BYSTANDER) == [1, 2, 3]

    def test_one_context_of_a_project_does_not_take_from_another_that_never_received(self) -> None:
        """Both are known at the start; it must not matter which receives first."""
        scene.record_numbers(*range(1, 1_201))
        scene.relay()
        scene.deliver_all(SUBSCRIBER)
        assert scene.heard(SUBSCRIBER) == list(range(1, 1_201))
        scene.deliver_all()
        assert scene.heard(BYSTANDER) == list(range(1, 1_201))

    @needs("refuse")
    def test_a_refused_message_blocks_its_key_and_nothing_else(self) -> None:
        """In the middle of a batch: earlier messages and other keys pass, later ones wait."""
        scene.subscribe()
        events = [
            Said(topic="a", number=1),
            Said(topic="refused", number=1),
            self.refused(),
            Said(topic="a", number=2),
            Said(topic="refused", number=3),
            Said(topic="b", number=1),
        ]
        movers.record_events(*events)
        outcome = scene.relay()
        assert (outcome.done, outcome.failed) == (4, 1)
        assert [attempts for attempts in scene.outbox("attempts") if attempts] == [1]
        scene.record_numbers(4, topic="refused")
        scene.record_numbers(3)
        scene.relay()
        for label in (SUBSCRIBER, BYSTANDER):
            scene.receive(label)
            movers.dispatch(label)
            assert scene.heard(label, "a") == [1, 2, 3]
            assert scene.heard(label, "b") == [1]
            assert scene.heard(label, "refused") == [1]
        assert not scene.outage(Queue.OUTBOX, PUBLISHER)

    @needs("refuse")
    def test_a_message_that_is_always_refused_is_dead_and_still_blocks_its_key(self) -> None:
        """Its attempts are counted; the next of its key does not overtake it."""
        scene.subscribe()
        movers.record_events(
            self.refused(), Said(topic="refused", number=3), Said(topic="a", number=1)
        )
        for _ in range(12):
            scene.relay()
            movers.come_due()
        assert sorted(scene.outbox()) == [OutboxState.DEAD, OutboxState.SENT, OutboxState.WAITING]
        scene.deliver_all()
        assert scene.heard(topic="a") == [1]
        assert scene.heard(topic="refused") == []
