"""Cases without faults: everything arrives once and unchanged, and each key in its order."""

from itertools import product

from outbox_inbox.conf.clock import monotonic
from outbox_inbox.contexts import get_context
from outbox_inbox.models import InboxMessage, OutboxMessage
from outbox_inbox.testing import movers

from . import scene
from .adapter import Adapter
from .publisher.contracts import Murmured
from .publisher.events import Thought
from .scene import BYSTANDER, PUBLISHER, SUBSCRIBER, SUBSCRIBERS

CHARACTERS = (
    "".join(map(chr, range(1, 0x180)))  # every control character but NUL, and all of Latin
    + '"\\/\r\n\t\x7f\u0085\u00a0\u2028\u2029\ufeff\ufffd\uffff'
    + "\ufdfa\u202e\u05d0\u05d1\u4e2d\u6587\U0001f469\u200d\U0001f680\U0010ffff"
    + "*1\r\n$4\r\nPING\r\n"
)
"""Characters that have broken parsers, databases or protocols between two processes."""

SAME = (
    "message_id", "type", "schema_version", "key", "key_hash", "payload", "headers",
    "correlation_id", "causation_id", "hops", "recorded_at",
)  # fmt: skip
"""The fields that are equal in the outbox and in every inbox."""


class OrderCases(Adapter):
    """What holds while nothing goes wrong."""

    def test_messages_of_a_key_arrive_in_order_and_once(self) -> None:
        """Over many batches, with other limits for the relay than for the receiver."""
        scene.subscribe()
        for number, topic in product(range(1, 21), "abc"):
            scene.record_numbers(number, topic=topic)
        while scene.relay(limit=7).done:
            pass
        while scene.receive(limit=4).done:
            pass
        scene.deliver_all()
        for label, topic in product(SUBSCRIBERS, "abc"):
            assert scene.inbox(label, topic) == scene.heard(label, topic) == list(range(1, 21))
        assert scene.all_sent()

    def test_order_holds_with_several_partitions_of_the_outbox(self) -> None:
        """All messages of a key are in one of them."""
        with self.configured(PARTITIONS={"outbox": 3, "inbox": 2}):
            scene.subscribe()
            topics = [f"topic {number}" for number in range(10)]
            for number, topic in product(range(1, 6), topics):
                scene.record_numbers(number, topic=topic)
            scene.deliver_all()
            for topic in topics:
                assert scene.heard(topic=topic) == [1, 2, 3, 4, 5]
            partitions = OutboxMessage.objects.using(scene.publisher().database)
            spread = partitions.filter(context=PUBLISHER).values_list("partition", flat=True)
            assert len(set(spread)) > 1

    def test_each_of_two_subscribers_gets_each_message(self) -> None:
        """What one has received and acknowledged is still there for the other."""
        scene.subscribe()
        scene.record_numbers(1, 2, 3)
        scene.deliver_all(SUBSCRIBER)
        scene.record_numbers(4)
        scene.deliver_all()
        assert scene.heard(SUBSCRIBER) == scene.heard(BYSTANDER) == [1, 2, 3, 4]

    def test_a_message_arrives_as_it_was_recorded(self) -> None:
        """Every field, with headers, and after a translation."""
        scene.subscribe()
        headers = {"who": "ÿ 中", "traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}
        movers.record_events(Thought(topic="a", number=1), headers=headers)
        scene.record_numbers(2, headers=headers)
        movers.record_events(Murmured(topic="a", number=3))
        scene.deliver_all()
        sent = self._rows(OutboxMessage, PUBLISHER, kind="integration")
        assert [row["causation_id"] is None for row in sent].count(False) == 1
        assert [row["key"] for row in sent].count(None) == 1
        for label in SUBSCRIBERS:
            assert self._rows(InboxMessage, label) == sent
            assert not scene.quarantined(label)

    def test_every_character_arrives(self) -> None:
        """In the payload, the key and the headers."""
        scene.subscribe()
        key = CHARACTERS[-150:]
        scene.record_numbers(1, topic=key, text=CHARACTERS, headers={"said": CHARACTERS})
        scene.record_numbers(2, topic=key)
        scene.deliver_all()
        assert not scene.quarantined()
        assert self._rows(InboxMessage, SUBSCRIBER) == self._rows(OutboxMessage, PUBLISHER)
        assert scene.heard(topic=key) == [1, 2]

    def test_a_payload_of_256_kilobytes_arrives(self) -> None:
        """The default of MAX_PAYLOAD, several times in a batch."""
        scene.subscribe()
        around = len(b'{"number":1,"text":"","topic":"a"}')
        for number in range(1, 5):
            scene.record_numbers(number, text="x" * (262_144 - around))
        scene.deliver_all()
        rows = self._rows(InboxMessage, SUBSCRIBER)
        assert [len(str(row["payload"])) for row in rows] == [262_144] * 4
        assert rows == self._rows(OutboxMessage, PUBLISHER)
        assert scene.heard() == [1, 2, 3, 4]

    def test_messages_without_a_key_arrive_once(self) -> None:
        """In any order."""
        scene.subscribe()
        movers.record_events(*[Murmured(topic="a", number=number) for number in range(1, 51)])
        scene.deliver_all()
        assert sorted(scene.heard()) == sorted(scene.heard(BYSTANDER)) == list(range(1, 51))

    def test_ten_thousand_messages_arrive_in_reasonable_time(self) -> None:
        """All of them, once and in order, from a backlog."""
        scene.subscribe()
        topics, each = [f"topic {number}" for number in range(100)], 100
        for number, topic in product(range(0, each, 10), topics):
            scene.record_numbers(*range(number, number + 10), topic=topic)
        begin = monotonic()
        done = outcome = scene.relay() + scene.receive()
        while outcome.done:
            outcome = scene.receive()
            done += outcome
        took = monotonic() - begin
        assert done.done >= 10_000
        movers.dispatch(SUBSCRIBER)
        assert scene.all_sent()
        for topic in topics:
            assert scene.heard(topic=topic) == list(range(each))
        assert took < self.seconds, f"it took {took:.1f} s"

    def _rows(self, model: type, label: str, **which: str) -> list[dict[str, object]]:
        rows = model.objects.using(get_context(label).database)  # type: ignore[attr-defined]
        return list(rows.filter(context=label, **which).order_by("message_id").values(*SAME))
