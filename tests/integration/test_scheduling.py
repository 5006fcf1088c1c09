"""``cancel()``: what was recorded for later is taken back, or it is on its way."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.db import transaction
from django.utils import timezone

from outbox_inbox import DuplicateMessage, InvalidEvent, NotInAtomicBlock, cancel, record
from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import HandlerError, NotAContext
from outbox_inbox.models import OutboxMessage, StoredEvent
from outbox_inbox.projections import applying
from outbox_inbox.testing import advance
from tests.depot.events import Wanted
from tests.shop.contracts import Sold
from tests.shop.events import Noted
from tests.support.movers import (
    Broken,
    Worker,
    come_due,
    crash,
    crashing,
    dispatch,
    entries,
    eventually,
    put,
    relay,
    states,
    striking,
    waits_for_lock,
)

pytestmark = pytest.mark.usefixtures("committed")

HOUR = timedelta(hours=1)


def later(number: int = 1, **terms: object) -> UUID:
    """Record a message for an hour later; return its id."""
    (envelope,) = put(Noted(order="a", number=number), at=timezone.now() + HOUR, **terms)
    return envelope.id


def cancelled(message_id: UUID, **terms: str) -> bool:
    """Cancel in a transaction of its own."""
    with transaction.atomic():
        return cancel(message_id, **{"context": "shop", **terms})


def handled() -> list[int]:
    """Let everything come due and be handled; return the numbers of what was."""
    come_due()
    relay()
    dispatch()
    return entries("note")


def test_what_is_cancelled_is_never_sent() -> None:
    """It is discarded, with the reason, and the others of its key go on."""
    gone = later(1)
    later(2)
    assert cancelled(gone, reason="the customer has called") is True
    row = OutboxMessage.objects.get(message_id=gone)
    assert (row.state, row.error) == ("discarded", "the customer has called")
    assert row.finished_at is not None
    assert handled() == [2]


def test_a_contract_for_later_can_be_cancelled() -> None:
    """What others would hear is taken back like what stays in the context."""
    (envelope,) = put(Sold(order="a", number=1), at=timezone.now() + HOUR)
    with transaction.atomic():
        assert cancel(envelope.id, context=get_context(envelope.source))
    come_due()
    assert relay().done == 0


def test_a_cancellation_that_is_rolled_back_was_none() -> None:
    """The message is sent at its time."""
    kept = later()

    def change_the_mind_again() -> None:
        with transaction.atomic():
            assert cancel(kept, context="shop")
            raise Broken

    with pytest.raises(Broken):
        change_the_mind_again()
    assert handled() == [1]


def test_it_can_be_recorded_and_cancelled_in_one_transaction() -> None:
    """A message that is cancelled before the commit leaves nothing to be sent."""
    with transaction.atomic():
        (envelope,) = record(Noted(order="a", number=1), at=timezone.now() + HOUR)
        assert cancel(envelope.id, context="shop")
    assert handled() == []


def test_a_time_that_has_passed_is_no_hindrance_before_a_worker_comes() -> None:
    """The message is still waiting: no relay has begun to move it."""
    late = later()
    advance(2 * HOUR)
    assert cancelled(late)
    assert handled() == []


def test_what_was_sent_is_gone() -> None:
    """False, and it stays what it is."""
    gone = later()
    come_due()
    relay()
    assert (cancelled(gone), states()) == (False, ["sent"])


def test_what_is_not_for_later_is_on_its_way() -> None:
    """A worker may have it in its hands, without any sign of it in the database."""
    (envelope,) = put(Noted(order="a", number=1))
    assert (cancelled(envelope.id), states()) == (False, ["pending"])


def test_what_was_tried_may_have_arrived() -> None:
    """A transport that did not answer in time may have it all the same."""
    tried = later()
    OutboxMessage.objects.update(attempts=1)
    assert (cancelled(tried), states()) == (False, ["pending"])


def test_what_blocks_its_key_is_left_to_an_operator():
    """It waits for a process that knows what it is, and others wait behind it: a cancellation frees none."""
    head = later()
    OutboxMessage.objects.update(holds=True)
    assert (cancelled(head), states()) == (False, ["pending"])


def test_only_the_first_cancellation_counts() -> None:
    """The second one finds nothing that waits, and the first reason stays."""
    gone = later()
    assert [cancelled(gone, reason="first"), cancelled(gone, reason="second")] == [True, False]
    assert OutboxMessage.objects.get().error == "first"


def test_an_id_that_does_not_exist_is_no_error() -> None:
    """What was pruned cannot be told from what never was."""
    assert not cancelled(uuid4())


def test_the_message_of_another_context_is_left_alone() -> None:
    """A context takes back its own only."""
    (envelope,) = put(Wanted(order="a", number=1), at=timezone.now() + HOUR)
    assert (cancelled(envelope.id), states()) == (False, ["pending"])
    assert cancelled(envelope.id, context="depot")


def test_the_id_stays_used() -> None:
    """A caller's own id names one message for as long as its row is kept."""
    number = uuid4()
    assert cancelled(later(message_id=number))
    with pytest.raises(DuplicateMessage):
        later(message_id=number)


def test_a_stream_keeps_what_has_happened() -> None:
    """Only the sending is cancelled of an event that is in a stream as well."""
    gone = later(stream="note-a")
    assert cancelled(gone)
    assert StoredEvent.objects.get().message_id == gone
    assert handled() == []


def test_a_context_on_another_database_is_asked_there(settings: object) -> None:
    """The transaction has to be open on the database of the context."""
    settings.OUTBOX_INBOX = {"CONTEXTS": {"shop": {"database": "other"}}}  # type: ignore[attr-defined]
    gone = later()
    with pytest.raises(NotInAtomicBlock, match="'other'"):
        cancelled(gone)
    with transaction.atomic(using="other"):
        assert cancel(gone, context="shop")


def test_outside_of_a_transaction_nothing_is_cancelled() -> None:
    """The error says which database the block has to be on."""
    kept = later()
    with pytest.raises(NotInAtomicBlock, match=r"cancel\(\) was called outside"):
        cancel(kept, context="shop")
    assert states() == ["pending"]


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ({"message_id": "x"}, "message_id must be a UUID, not 'x'"),
        ({"reason": " "}, "reason is empty"),
        ({"reason": "x" * 501}, "501 characters"),
        ({"reason": "a\0b"}, "NUL"),
    ],
)
def test_nonsense_is_refused(terms: dict[str, str], says: str) -> None:
    """Before any SQL is run, as for `record()`."""
    with pytest.raises(InvalidEvent, match=says), transaction.atomic():
        cancel(**{"message_id": uuid4(), "context": "shop", **terms})  # type: ignore[arg-type]


def test_an_unknown_context_is_refused() -> None:
    """With the error that all lookups of contexts have."""
    with pytest.raises(NotAContext):
        cancelled(uuid4(), context="shp")


def test_a_projection_decides_nothing() -> None:
    """A rebuild would cancel it again."""
    with applying("board"), pytest.raises(HandlerError, match="the projection board called cancel"):
        cancelled(uuid4())


@pytest.mark.server  # on SQLite there is one writer at a time: no such race
@pytest.mark.parametrize("point", ["relay.after_select", "relay.before_mark", "relay.after_mark"])
def test_a_message_that_is_being_moved_is_on_its_way(point: str) -> None:
    """The caller does not wait for the relay, and never hears "cancelled" of a message that is sent."""
    moving, said = later(), []
    come_due()

    def meanwhile() -> None:
        with Worker() as other:
            said.append(other.do(cancelled, moving))

    with striking(point, meanwhile):
        relay()
    assert (said, states()) == ([False], ["sent"])


@pytest.mark.server  # on SQLite there is one writer at a time: no such race
def test_of_two_who_cancel_at_once_one_has_done_it() -> None:
    """The other is not kept waiting, and does not claim it."""
    gone = later()
    with Worker() as other, other.transaction():
        assert other.do(cancel, gone, context="shop")
        assert not cancelled(gone)
    assert states() == ["discarded"]


@pytest.mark.server  # on SQLite there is one writer at a time: no such race
@pytest.mark.parametrize("commits", [True, False])
def test_the_relay_comes_while_a_cancellation_is_open(commits: bool) -> None:
    """What the cancellation comes to is what counts, whenever the relay looks."""
    gone = later()
    come_due()
    with Worker() as user, Worker() as mover:
        block = transaction.atomic()
        user.do(block.__enter__)
        assert user.do(cancel, gone, context="shop")
        moved = mover.start(relay)
        eventually(lambda: moved.done() or waits_for_lock(), "the relay has met it")
        if commits:
            user.do(block.__exit__, None, None, None)
        else:
            user.do(block.__exit__, Broken, Broken(), None)
        moved.result(60)
    relay()
    assert states() == ["discarded" if commits else "sent"]


def test_a_message_that_a_relay_was_sending_when_it_was_killed_cannot_be_cancelled():
    """The transport may have it: the answer is never that it is not sent."""
    message = later()
    come_due()
    with crashing(), striking("relay.before_mark", crash):
        relay()
    assert not cancelled(message)
