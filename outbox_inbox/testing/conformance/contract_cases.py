"""Cases that call the methods of a transport directly: what `Transport` promises for each."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4
from zlib import crc32

from outbox_inbox.conf.clock import monotonic
from outbox_inbox.contexts import Context, get_context
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.transports import OutgoingMessage, Published, ReceivedMessage
from outbox_inbox.transports.wire import attributes_of

from . import adapter, scene
from .adapter import Adapter, needs
from .scene import BYSTANDER, SUBSCRIBER

AT_ONCE = 2.0  # seconds, on a busy machine


class ContractCases(Adapter):
    """What the relay and the receiver rely on."""

    def test_a_missing_ability_is_declared_with_a_reason(self) -> None:
        """By the names of abilities, each with a sentence for the users who choose a transport."""
        assert set(self.cannot) <= set(adapter.ABILITIES)
        assert all(reason.strip() for reason in self.cannot.values())

    @needs("receive")
    def test_every_message_of_a_batch_is_accounted_for(self) -> None:
        """Each message is confirmed or refused, once."""
        scene.subscribe()
        messages = outgoing_messages(5)
        published = self._publish(messages)
        assert sorted(published.sent) == [message.row for message in messages]
        assert not published.refused

    @needs("receive")
    def test_a_message_is_handed_out_as_it_was_given(self) -> None:
        """The attributes of a CloudEvent, and the bytes of the payload."""
        scene.subscribe()
        messages = outgoing_messages(3)
        self._publish(messages)
        received = self._receive(SUBSCRIBER, 10)
        assert [dict(each.attributes) for each in received] == [
            attributes_of(scene.publisher(), message) for message in messages
        ]
        assert [each.data for each in received] == [each.data.encode() for each in messages]

    @needs("receive")
    def test_a_batch_may_be_published_twice(self) -> None:
        """As after a lost confirmation: it is confirmed again, and the order is kept."""
        scene.subscribe()
        messages = outgoing_messages(3)
        for _ in range(2):
            published = self._publish(messages)
            assert sorted(published.sent) == [message.row for message in messages]
        ids = [each.attributes["id"] for each in self._receive(SUBSCRIBER, 10)]
        assert list(dict.fromkeys(ids)) == [str(message.id) for message in messages]

    @needs("receive")
    def test_what_was_not_acknowledged_is_handed_out_again_in_its_place(self) -> None:
        """To the same receiver and to the next one, before anything new."""
        scene.subscribe()
        subscriber, messages = get_context(SUBSCRIBER), outgoing_messages(4)
        ids = [str(message.id) for message in messages]
        self._publish(messages[:3])
        assert [each.attributes["id"] for each in self._receive(SUBSCRIBER, 2)] == ids[:2]
        self.continue_as_another()
        self._publish(messages[3:])
        with scene.wire().attached(subscriber):
            again = scene.wire().receive(subscriber, 2)
            assert [each.attributes["id"] for each in again] == ids[:2]
            scene.wire().acknowledge(subscriber, again)
            others = self._receive_until_empty(subscriber)
        assert [each.attributes["id"] for each in others] == ids[2:]

    @needs("receive")
    def test_what_was_acknowledged_is_never_handed_out_again(self) -> None:
        """Not to the next process either, and the other subscriber still has it."""
        scene.subscribe()
        self._publish(outgoing_messages(3))
        with scene.wire().attached(get_context(SUBSCRIBER)):
            assert len(self._receive_until_empty(get_context(SUBSCRIBER))) == 3
        self.continue_as_another()
        assert self._receive(SUBSCRIBER, 10) == []
        assert len(self._receive(BYSTANDER, 10)) == 3

    @needs("receive")
    def test_a_limit_is_kept(self) -> None:
        """The receiver stores what it gets in one transaction, and has it in memory until then."""
        scene.subscribe()
        self._publish(outgoing_messages(5))
        assert len(self._receive(SUBSCRIBER, 2)) == 2

    @needs("receive")
    def test_receiving_from_nothing_returns_at_once(self) -> None:
        """It is called within a transaction, so it never waits for messages to come."""
        scene.subscribe()
        begin = monotonic()
        assert self._receive(SUBSCRIBER, 10) == []
        assert monotonic() - begin < AT_ONCE

    @needs("receive")
    def test_has_messages_is_never_wrongly_false(self) -> None:
        """Neither for new messages nor for those that were handed out and not acknowledged."""
        scene.subscribe()
        self._publish(outgoing_messages(1))
        subscriber = get_context(SUBSCRIBER)
        assert scene.wire().has_messages(subscriber)
        self._receive(SUBSCRIBER, 10)
        self.continue_as_another()
        assert scene.wire().has_messages(subscriber)
        assert scene.wire().has_messages(get_context(BYSTANDER))

    def test_problems_are_sentences(self) -> None:
        """A healthy server may have some as well; an operator reads them."""
        assert all(each.strip() == each and " " in each for each in scene.wire().problems())

    @needs("receive", "stop")
    def test_an_unreachable_server_raises_transport_unavailable(self) -> None:
        """No method raises anything else, and the text names the server."""
        scene.subscribe()
        subscriber, messages = get_context(SUBSCRIBER), outgoing_messages(1)
        with self.stopped():
            self.continue_as_another()
            wire = scene.wire()
            for call in (
                lambda: self._publish(messages),
                lambda: wire.has_messages(subscriber),
                lambda: self._receive(SUBSCRIBER, 1),
                lambda: list(wire.problems()),
            ):
                try:
                    call()
                except TransportUnavailable as error:
                    assert len(str(error)) > 10  # noqa: PT017  a method may also return

    def _publish(self, messages: Sequence[OutgoingMessage]) -> Published:
        return scene.wire().publish(scene.publisher(), messages)

    def _receive(self, label: str, limit: int) -> Sequence[ReceivedMessage]:
        """Receive once, and acknowledge nothing."""
        with scene.wire().attached(get_context(label)):
            return list(scene.wire().receive(get_context(label), limit))

    def _receive_until_empty(self, subscriber: Context) -> list[ReceivedMessage]:
        """Receive and acknowledge, as the receiver does, until nothing is left."""
        found: list[ReceivedMessage] = []
        while batch := scene.wire().receive(subscriber, 2):
            scene.wire().acknowledge(subscriber, batch)
            found += batch
        return found


def outgoing_messages(count: int, key: str | None = "a") -> list[OutgoingMessage]:
    """Return messages as the relay publishes them."""
    return [
        OutgoingMessage(
            row=number,
            id=uuid4(),
            type="conformance_publisher.said",
            version=1,
            key=key,
            key_hash=crc32((key or str(number)).encode()),
            partition=0,
            time=datetime(2030, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC),
            correlation_id=UUID(int=number),
            causation_id=UUID(int=number + 1) if number % 2 else None,
            hops=number,
            headers='{"who":"ÿ"}' if number % 2 else "{}",
            data=f'{{"number":{number},"text":"中","topic":"a"}}',
        )
        for number in range(1, count + 1)
    ]
