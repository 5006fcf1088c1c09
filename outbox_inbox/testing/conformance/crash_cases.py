"""Cases in which a process dies between two steps: delivered at least once, handled once."""

import random
from unittest.mock import patch

import pytest

from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.models import Queue
from outbox_inbox.testing import movers

from . import scene
from .adapter import Adapter, needs
from .scene import BYSTANDER, SUBSCRIBER, SUBSCRIBERS

BEFORE_PUBLISHING = ("relay.after_lock", "relay.after_select", "relay.before_publish")
AFTER_PUBLISHING = ("relay.after_publish", "relay.before_mark", "relay.after_mark")
RECEIVING = ("receive.after_read", "receive.after_insert")
STORED = ("receive.after_commit", "receive.after_ack")
SEEDS = range(3)


class CrashCases(Adapter):
    """What holds when a publisher or a subscriber is killed and another continues."""

    @pytest.mark.parametrize("point", BEFORE_PUBLISHING + AFTER_PUBLISHING)
    def test_a_publisher_that_dies_loses_nothing_and_repeats_without_effect(
        self, point: str
    ) -> None:
        """The next one sends what is left; what it sends a second time is dropped by its id."""
        scene.subscribe()
        scene.record_numbers(1, 2, 3)
        with self.crashing(point):
            scene.relay()
        scene.check_all_after(4)
        assert scene.inbox() == [1, 2, 3, 4]

    def test_repeated_messages_are_dropped_also_after_they_were_handled(self) -> None:
        """A late duplicate changes nothing."""
        scene.subscribe()
        scene.record_numbers(1, 2)
        with self.crashing("relay.before_mark"):
            scene.relay()
        for label in SUBSCRIBERS:
            scene.receive(label)
            movers.dispatch(label)
        scene.check_all_after(3)

    @pytest.mark.parametrize("point", [*RECEIVING, *STORED])
    @needs("receive")
    def test_a_receiver_that_dies_gets_again_what_it_had_not_confirmed(self, point: str) -> None:
        """Before anything new; the inbox drops what it has already."""
        scene.publish_numbers(1, 2, 3)
        with self.crashing(point):
            scene.receive()
        scene.check_all_after(4)
        assert scene.inbox() == [1, 2, 3, 4]

    @needs("receive")
    def test_what_is_pending_comes_before_what_is_new(self) -> None:
        """Also if the dead receiver had received only some of the messages."""
        scene.publish_numbers(1, 2, 3)
        with self.crashing("receive.after_read"):
            scene.receive(limit=2)
        scene.record_numbers(4)
        scene.relay()
        numbers: list[int] = []
        while scene.receive(limit=1).done:
            numbers = scene.inbox()
        assert numbers == [1, 2, 3, 4]

    @needs("receive")
    def test_receivers_that_die_one_after_the_other_lose_nothing(self) -> None:
        """Each receives some messages, and none acknowledges them."""
        scene.publish_numbers(*range(1, 9))
        for point in (*RECEIVING, "receive.after_commit", *RECEIVING):
            with self.crashing(point):
                scene.receive(limit=3)
        scene.deliver_all()
        assert scene.inbox() == scene.heard() == list(range(1, 9))

    @needs("receive")
    def test_an_acknowledgement_that_fails_repeats_messages_and_handles_them_once(self) -> None:
        """The receiver backs off and continues; the inbox drops what comes again."""
        scene.publish_numbers(1, 2)
        failing = TransportUnavailable("no answer")
        with (
            patch.object(type(scene.wire()), "acknowledge", side_effect=failing),
            pytest.raises(TransportUnavailable),
        ):
            scene.receive()
        assert "no answer" in scene.outage(Queue.INTAKE, SUBSCRIBER)
        scene.record_numbers(3)
        scene.deliver_all()
        assert scene.inbox() == scene.heard() == [1, 2, 3]

    @needs("outlive")
    def test_every_turn_may_run_in_another_process(self) -> None:
        """Nothing that matters exists only in the memory of a process."""
        scene.subscribe()
        for number in range(1, 6):
            scene.record_numbers(number)
            scene.new_process()
            scene.relay()
            scene.new_process()
            scene.receive(limit=1)
        scene.new_process()
        scene.deliver_all()
        assert scene.heard() == scene.heard(BYSTANDER) == [1, 2, 3, 4, 5]

    @pytest.mark.parametrize("seed", SEEDS)
    @needs("outlive")
    def test_a_storm_of_crashes_changes_neither_number_nor_order(self, seed: int) -> None:
        """A random mover dies at a random point; a failing seed can be run again."""
        self.storm(seed)

    @needs("outlive", "restart")
    def test_a_storm_with_restarts_of_the_server_changes_neither(self) -> None:
        """The server is killed twice meanwhile."""
        self.storm(0, restarts=2)

    def storm(self, seed: int, *, messages: int = 30, restarts: int = 0) -> None:
        """Record over three keys, and let a random mover die at a random point after each message."""
        chance = random.Random(seed)  # noqa: S311  not for secrets
        said = dict.fromkeys("abc", 0)
        restarting = set(chance.sample(range(messages), restarts))
        # A crash counts as an attempt of a message; here none may be the last.
        with self.configured(MAX_ATTEMPTS=1_000):
            scene.subscribe()
            for number in range(messages):
                topic = chance.choice("abc")
                said[topic] += 1
                scene.record_numbers(said[topic], topic=topic)
                self._crash_one_mover(chance)
                if number in restarting:
                    self.restart()
            scene.deliver_all()
            for label in SUBSCRIBERS:
                for topic, last in said.items():
                    assert scene.heard(label, topic) == list(range(1, last + 1)), f"seed {seed}"
                    assert scene.inbox(label, topic) == list(range(1, last + 1)), f"seed {seed}"

    def _crash_one_mover(self, chance: random.Random) -> None:
        labels = () if scene.wire().writes_inboxes else SUBSCRIBERS
        mover = chance.choice((None, *labels))
        points = RECEIVING + STORED if mover else BEFORE_PUBLISHING + AFTER_PUBLISHING
        point, limit = chance.choice(points), chance.randint(1, 5)
        movers.come_due()
        try:
            with self.crashing(point):
                if mover:
                    scene.receive(mover, limit=limit)
                else:
                    scene.relay(limit=limit)
        except (movers.PointNotReached, TransportUnavailable):
            self.continue_as_another()
