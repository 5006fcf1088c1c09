"""Who gets what: subscribers that are slow, that come later, and messages that are refused."""

from outbox_inbox.models import OutboxState, Queue

from . import scene
from .adapter import Abilities, needs
from .publisher.contracts import Said
from .scene import BYSTANDER, PUBLISHER, SUBSCRIBER


class SubscriberCases(Abilities):
    """What holds for a subscriber, whatever the others do."""

    def test_a_slow_subscriber_holds_nobody_up_and_misses_nothing(self) -> None:
        """It gets everything later, in order, however long the others have been done with it."""
        scene.subscribe()
        last = 0
        for _ in range(15):
            scene.say(*range(last + 1, last + 101))
            last += 100
            scene.relay()
            scene.receive(SUBSCRIBER)
            scene.dispatch(SUBSCRIBER)
            assert scene.heard(SUBSCRIBER)[-1:] == [last]
        assert scene.heard(BYSTANDER) == []
        scene.settle()
        assert scene.heard(BYSTANDER) == scene.heard(SUBSCRIBER) == list(range(1, last + 1))

    def test_what_nobody_subscribes_to_yet_is_not_lost(self) -> None:
        """It waits for the first who does: with the transport, or else in the outbox."""
        scene.say(1, 2, 3)
        scene.relay()
        if not self.can("keep"):
            assert set(scene.outbox()) <= {OutboxState.PENDING, OutboxState.WAITING}
        scene.settle(SUBSCRIBER)
        assert scene.heard(SUBSCRIBER) == [1, 2, 3]

    @needs("keep")
    def test_whoever_comes_later_gets_all_that_no_other_has_read(self) -> None:
        """All of it was published before anybody subscribed."""
        scene.say(1, 2, 3)
        scene.relay()
        scene.subscribe()
        scene.settle()
        assert scene.heard(SUBSCRIBER) == scene.heard(BYSTANDER) == [1, 2, 3]

    def test_one_context_of_a_project_does_not_take_from_another_that_never_received(self) -> None:
        """Both are known at the start; who happens to receive first must not matter."""
        scene.say(*range(1, 1_201))
        scene.relay()
        scene.settle(SUBSCRIBER)
        assert scene.heard(SUBSCRIBER) == list(range(1, 1_201))
        scene.settle()
        assert scene.heard(BYSTANDER) == list(range(1, 1_201))

    @needs("refuse")
    def test_a_refused_message_holds_its_key_and_nothing_else(self) -> None:
        """In the middle of a batch: who is before and beside it passes, who is behind it waits."""
        scene.subscribe()
        events = [
            Said(topic="a", number=1),
            Said(topic="refused", number=1),
            self.refused(),
            Said(topic="a", number=2),
            Said(topic="refused", number=3),
            Said(topic="b", number=1),
        ]
        scene.put(events)
        outcome = scene.relay()
        assert (outcome.done, outcome.failed) == (4, 1)
        assert [attempts for attempts in scene.outbox("attempts") if attempts] == [1]
        scene.say(4, topic="refused")
        scene.say(3)
        scene.relay()
        for label in (SUBSCRIBER, BYSTANDER):
            scene.receive(label)
            scene.dispatch(label)
            assert scene.heard(label, "a") == [1, 2, 3]
            assert scene.heard(label, "b") == [1]
            assert scene.heard(label, "refused") == [1]
        assert not scene.resting(Queue.OUTBOX, PUBLISHER)

    @needs("refuse")
    def test_a_message_that_is_refused_to_the_end_is_dead_and_still_holds_its_key(self) -> None:
        """Its attempts are counted; the next of its key is not sent past it."""
        scene.subscribe()
        scene.put([self.refused(), Said(topic="refused", number=3), Said(topic="a", number=1)])
        for _ in range(12):
            scene.relay()
            scene.come_due()
        assert sorted(scene.outbox()) == [OutboxState.DEAD, OutboxState.SENT, OutboxState.WAITING]
        scene.settle()
        assert scene.heard(topic="a") == [1]
        assert scene.heard(topic="refused") == []
