"""The methods of a transport as they are called directly: what `Transport` says of each of them."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4
from zlib import crc32

from outbox_inbox.contexts import Context, get_context
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.transports import OutgoingMessage, ReceivedMessage
from outbox_inbox.transports.wire import attributes_of

from . import adapter, scene
from .adapter import Abilities, needs
from .scene import BYSTANDER, SUBSCRIBER

AT_ONCE = 2.0  # seconds, on a busy machine


class ContractCases(Abilities):
    """What the relay and the receiver rely on, without them."""

    def test_what_it_cannot_is_declared_with_a_reason(self) -> None:
        """By the names of abilities, each with a sentence for whoever chooses a transport."""
        assert set(self.cannot) <= set(adapter.ABILITIES)
        assert all(reason.strip() for reason in self.cannot.values())

    @needs("receive")
    def test_every_message_of_a_batch_is_accounted_for(self) -> None:
        """Confirmed or refused, each once."""
        scene.subscribe()
        messages = made(5)
        published = scene.wire().publish(scene.publisher(), messages)
        assert sorted(published.sent) == [message.row for message in messages]
        assert not published.refused

    @needs("receive")
    def test_a_message_is_handed_out_as_it_was_given(self) -> None:
        """The attributes of a CloudEvent, and the bytes of the payload."""
        scene.subscribe()
        messages = made(3)
        scene.wire().publish(scene.publisher(), messages)
        received = self._receive(SUBSCRIBER, 10)
        assert [dict(each.attributes) for each in received] == [
            attributes_of(scene.publisher(), message) for message in messages
        ]
        assert [each.data for each in received] == [each.data.encode() for each in messages]

    @needs("receive")
    def test_a_batch_may_be_published_twice(self) -> None:
        """As after a lost answer: it is confirmed again, and no message is in another's place."""
        scene.subscribe()
        messages = made(3)
        for _ in range(2):
            published = scene.wire().publish(scene.publisher(), messages)
            assert sorted(published.sent) == [message.row for message in messages]
        ids = [each.attributes["id"] for each in self._receive(SUBSCRIBER, 10)]
        assert list(dict.fromkeys(ids)) == [str(message.id) for message in messages]

    @needs("receive")
    def test_what_was_not_acknowledged_is_handed_out_again_in_its_place(self) -> None:
        """To the same receiver and to the next one, before anything new."""
        scene.subscribe()
        subscriber, messages = get_context(SUBSCRIBER), made(4)
        ids = [str(message.id) for message in messages]
        scene.wire().publish(scene.publisher(), messages[:3])
        with scene.wire().attached(subscriber):
            first = scene.wire().receive(subscriber, 2)
            assert [each.attributes["id"] for each in first] == ids[:2]
        self.go_on_as_another()
        scene.wire().publish(scene.publisher(), messages[3:])
        with scene.wire().attached(subscriber):
            again = scene.wire().receive(subscriber, 2)
            assert [each.attributes["id"] for each in again] == ids[:2]
            scene.wire().acknowledge(subscriber, again)
            rest = self._until_empty(subscriber)
        assert [each.attributes["id"] for each in rest] == ids[2:]

    @needs("receive")
    def test_what_was_acknowledged_is_never_handed_out_again(self) -> None:
        """Not to the next process either, and the other subscriber still has it."""
        scene.subscribe()
        scene.wire().publish(scene.publisher(), made(3))
        with scene.wire().attached(get_context(SUBSCRIBER)):
            assert len(self._until_empty(get_context(SUBSCRIBER))) == 3
        self.go_on_as_another()
        assert self._receive(SUBSCRIBER, 10) == []
        assert len(self._receive(BYSTANDER, 10)) == 3

    @needs("receive")
    def test_a_limit_is_kept(self) -> None:
        """A receiver has to hold what it gets in memory, and in one transaction."""
        scene.subscribe()
        scene.wire().publish(scene.publisher(), made(5))
        assert len(self._receive(SUBSCRIBER, 2)) == 2

    @needs("receive")
    def test_receiving_from_nothing_returns_at_once(self) -> None:
        """It is called within a transaction, so it never waits for messages to come."""
        scene.subscribe()
        begin = time.monotonic()
        assert self._receive(SUBSCRIBER, 10) == []
        assert time.monotonic() - begin < AT_ONCE

    @needs("receive")
    def test_it_never_denies_that_there_are_messages(self) -> None:
        """Whether they are new, or were handed out and not acknowledged."""
        scene.subscribe()
        scene.wire().publish(scene.publisher(), made(1))
        subscriber = get_context(SUBSCRIBER)
        assert scene.wire().has_messages(subscriber)
        with scene.wire().attached(subscriber):
            scene.wire().receive(subscriber, 10)
        self.go_on_as_another()
        assert scene.wire().has_messages(subscriber)
        assert scene.wire().has_messages(get_context(BYSTANDER))

    def test_it_says_in_sentences_what_is_wrong_with_it(self) -> None:
        """With a server that is as it should be there may still be something to be said."""
        assert all(each.strip() == each and " " in each for each in scene.wire().problems())

    @needs("receive", "stop")
    def test_a_server_that_cannot_be_asked_is_no_other_error(self) -> None:
        """Each method raises TransportUnavailable, with a text that says of whom it speaks."""
        scene.subscribe()
        subscriber, messages = get_context(SUBSCRIBER), made(1)
        with self.stopped():
            self.go_on_as_another()
            wire = scene.wire()
            for call in (
                lambda: wire.publish(scene.publisher(), messages),
                lambda: wire.has_messages(subscriber),
                lambda: self._receive(SUBSCRIBER, 1),
                lambda: list(wire.problems()),
            ):
                try:
                    call()
                except TransportUnavailable as error:
                    assert len(str(error)) > 10  # noqa: PT017  each of them is looked at

    def _receive(self, label: str, limit: int) -> Sequence[ReceivedMessage]:
        """Return what is handed out once, and acknowledge nothing."""
        with scene.wire().attached(get_context(label)):
            return list(scene.wire().receive(get_context(label), limit))

    def _until_empty(self, subscriber: Context) -> list[ReceivedMessage]:
        """Return everything, acknowledged as the receiver does it."""
        found: list[ReceivedMessage] = []
        while batch := scene.wire().receive(subscriber, 2):
            scene.wire().acknowledge(subscriber, batch)
            found += batch
        return found


def made(count: int, key: str | None = "a") -> list[OutgoingMessage]:
    """Return messages as the relay hands them over."""
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
