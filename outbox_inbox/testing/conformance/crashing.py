"""At least once on the way, once in the end: processes that die between any two steps."""

import random
from unittest.mock import patch

import pytest

from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.models import Queue

from . import scene
from .adapter import Abilities, needs
from .scene import BYSTANDER, SUBSCRIBER, SUBSCRIBERS

BEFORE_PUBLISHING = ("relay.after_lock", "relay.after_select", "relay.before_publish")
AFTER_PUBLISHING = ("relay.after_publish", "relay.before_mark", "relay.after_mark")
RECEIVING = ("receive.after_read", "receive.after_insert")
STORED = ("receive.after_commit", "receive.after_ack")
SEEDS = range(3)


class CrashCases(Abilities):
    """What holds when a publisher or a subscriber ends without a word and another goes on."""

    @pytest.mark.parametrize("point", BEFORE_PUBLISHING)
    def test_a_publisher_that_dies_before_publishing_loses_nothing(self, point: str) -> None:
        """The next one sends what was left."""
        scene.subscribe()
        scene.say(1, 2, 3)
        with self.crashing(point):
            scene.relay()
        scene.say(4)
        scene.settle()
        assert scene.heard() == scene.heard(BYSTANDER) == [1, 2, 3, 4]

    @pytest.mark.parametrize("point", AFTER_PUBLISHING)
    def test_a_publisher_that_dies_after_publishing_repeats_and_nobody_notices(
        self, point: str
    ) -> None:
        """Between the confirmation and the mark: it is sent again, and dropped by its id."""
        scene.subscribe()
        scene.say(1, 2, 3)
        with self.crashing(point):
            scene.relay()
        scene.say(4)
        scene.settle()
        assert scene.heard() == scene.heard(BYSTANDER) == [1, 2, 3, 4]
        assert scene.inbox() == [1, 2, 3, 4]

    def test_repeated_messages_are_dropped_also_after_they_were_handled(self) -> None:
        """A duplicate that comes late changes nothing."""
        scene.subscribe()
        scene.say(1, 2)
        with self.crashing("relay.before_mark"):
            scene.relay()
        for label in SUBSCRIBERS:
            scene.receive(label)
            scene.dispatch(label)
        scene.say(3)
        scene.settle()
        assert scene.heard() == scene.heard(BYSTANDER) == [1, 2, 3]

    @pytest.mark.parametrize("point", [*RECEIVING, *STORED])
    @needs("receive")
    def test_a_receiver_that_dies_gets_again_what_it_had_not_confirmed(self, point: str) -> None:
        """Before anything new, and the inbox drops what it has."""
        scene.subscribe()
        scene.say(1, 2, 3)
        scene.relay()
        with self.crashing(point):
            scene.receive()
        scene.say(4)
        scene.relay()
        scene.settle()
        assert scene.inbox() == scene.heard() == scene.heard(BYSTANDER) == [1, 2, 3, 4]

    @needs("receive")
    def test_what_is_pending_comes_before_what_is_new(self) -> None:
        """Also where the dead receiver had taken only a part of what was there."""
        scene.subscribe()
        scene.say(1, 2, 3)
        scene.relay()
        with self.crashing("receive.after_read"):
            scene.receive(limit=2)
        scene.say(4)
        scene.relay()
        numbers: list[int] = []
        while scene.receive(limit=1).done:
            numbers = scene.inbox()
        assert numbers == [1, 2, 3, 4]

    @needs("receive")
    def test_receivers_that_die_one_after_the_other_lose_nothing(self) -> None:
        """Each takes a little, and none of them confirms."""
        scene.subscribe()
        scene.say(*range(1, 9))
        scene.relay()
        for point in (*RECEIVING, "receive.after_commit", *RECEIVING):
            with self.crashing(point):
                scene.receive(limit=3)
        scene.settle()
        assert scene.inbox() == scene.heard() == list(range(1, 9))

    @needs("receive")
    def test_an_acknowledgement_that_fails_repeats_messages_and_handles_them_once(self) -> None:
        """The receiver rests, and goes on; the inbox has what comes again."""
        scene.subscribe()
        scene.say(1, 2)
        scene.relay()
        failing = TransportUnavailable("nobody answers")
        with (
            patch.object(type(scene.wire()), "acknowledge", side_effect=failing),
            pytest.raises(TransportUnavailable),
        ):
            scene.receive()
        assert "nobody answers" in scene.resting(Queue.INTAKE, SUBSCRIBER)
        scene.say(3)
        scene.settle()
        assert scene.inbox() == scene.heard() == [1, 2, 3]

    @needs("outlive")
    def test_everybody_may_be_another_process_each_time(self) -> None:
        """Nothing that matters is kept in the memory of one."""
        scene.subscribe()
        for number in range(1, 6):
            scene.say(number)
            scene.new_process()
            scene.relay()
            scene.new_process()
            scene.receive(limit=1)
        scene.new_process()
        scene.settle()
        assert scene.heard() == scene.heard(BYSTANDER) == [1, 2, 3, 4, 5]

    @pytest.mark.parametrize("seed", SEEDS)
    @needs("outlive")
    def test_a_storm_of_crashes_changes_neither_number_nor_order(self, seed: int) -> None:
        """Whoever dies wherever, by lot; a failing seed can be run again."""
        self.storm(seed)

    @needs("outlive", "restart")
    def test_a_storm_with_restarts_of_the_server_neither(self) -> None:
        """The server is killed twice in between."""
        self.storm(0, restarts=2)

    def storm(self, seed: int, *, messages: int = 30, restarts: int = 0) -> None:
        """Record, and let movers die at points drawn by lot; then see what has come of it all.

        Arguments:
            seed: of the lots that are drawn.
            messages: how many are recorded, over three keys; a mover has its turn after each.
            restarts: how often the server is restarted meanwhile.
        """
        chance = random.Random(seed)  # noqa: S311  not for secrets
        said = dict.fromkeys("abc", 0)
        restarting = set(chance.sample(range(messages), restarts))
        # A crash is an attempt of the message at hand, and here it is never to be the last one.
        with self.configured(MAX_ATTEMPTS=1_000):
            scene.subscribe()
            for number in range(messages):
                topic = chance.choice("abc")
                said[topic] += 1
                scene.say(said[topic], topic=topic)
                self._let_one_die(chance)
                if number in restarting:
                    self.restart()
            scene.settle()
            for label in SUBSCRIBERS:
                for topic, last in said.items():
                    assert scene.heard(label, topic) == list(range(1, last + 1)), f"seed {seed}"
                    assert scene.inbox(label, topic) == list(range(1, last + 1)), f"seed {seed}"

    def _let_one_die(self, chance: random.Random) -> None:
        """Let one mover have a turn, and die in it if it comes to the point that was drawn."""
        labels = () if scene.wire().writes_inboxes else SUBSCRIBERS
        mover = chance.choice((None, *labels))
        points = RECEIVING + STORED if mover else BEFORE_PUBLISHING + AFTER_PUBLISHING
        point, limit = chance.choice(points), chance.randint(1, 5)
        scene.come_due()
        try:
            with self.crashing(point):
                if mover:
                    scene.receive(mover, limit=limit)
                else:
                    scene.relay(limit=limit)
        except (scene.NothingStruck, TransportUnavailable):
            self.go_on_as_another()
