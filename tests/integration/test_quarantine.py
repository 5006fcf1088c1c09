"""The quarantine: a message that cannot be read is kept once, blocks nothing, and can be released."""

import json
import logging
from datetime import timedelta
from uuid import UUID

import pytest
from django.apps import apps
from django.utils import timezone

from outbox_inbox import IntegrationEvent
from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import NotAContext, OutboxInboxError
from outbox_inbox.models import (
    Delivery,
    InboxMessage,
    Interest,
    Partition,
    QuarantinedMessage,
    QuarantineReason,
    QuarantineState,
    Queue,
)
from outbox_inbox.operations import (
    QuarantineSelection,
    Released,
    discard_quarantined,
    discard_quarantined_rows,
    prune,
    quarantine,
    queue_stats,
    release,
    release_rows,
)
from outbox_inbox.transports import ReceivedMessage
from outbox_inbox.transports.quarantine import RefusedMessage, quarantine_messages
from tests.shop.contracts import Sold
from tests.support.arriving import arriving, bring, inbox, payload
from tests.support.movers import (
    PATIENCE,
    Worker,
    dispatch,
    eventually,
    picks,
    receive,
    waits_for_lock,
)
from tests.support.script import playing
from tests.support.wire import WIRE

pytestmark = pytest.mark.usefixtures("committed", "wired")

LIMIT = 1_000  # MAX_PAYLOAD in these tests
DEPOT = QuarantineSelection(context="depot")


class Sold2(IntegrationEvent, name="shop.sold", version=2, key="order"):
    """The contract as it will be after the next deployment."""

    order: str
    number: int
    country: str


class Returned(IntegrationEvent, name="shop.returned", key="order"):
    """Another contract of the shop."""

    order: str


@pytest.fixture
def wired(settings):
    """A transport that a test holds in its hands, and a small limit."""
    settings.OUTBOX_INBOX = {**WIRE, "MAX_PAYLOAD": LIMIT}


@pytest.fixture
def deployed(settings, monkeypatch):
    """Return a function that deploys the depot with the next version of its contract."""

    def deploy(*subscribes):
        monkeypatch.setattr(apps.get_app_config("depot"), "subscribes", subscribes)
        settings.OUTBOX_INBOX = {**settings.OUTBOX_INBOX}

    return deploy


def new_version(number, **changed):
    """Return a message of the version that the depot does not know yet."""
    data = json.dumps({"order": "a", "number": number, "country": "SE"}).encode()
    return arriving(number, type="shop.sold.v2", data=data, **changed)


def selected(number):
    """Return the selection of one message by its id."""
    return QuarantineSelection(context="depot", id=str(UUID(int=number)))


def aside():
    """Return the quarantined rows, in order."""
    return list(QuarantinedMessage.objects.order_by("id"))


def reasons():
    """Return why messages are aside, in order."""
    return [QuarantineReason(row.reason) for row in aside()]


WRONG = {
    QuarantineReason.TOO_LARGE: arriving(2, data=b'"' + b"a" * LIMIT),
    QuarantineReason.TOO_DEEP: arriving(2, data=b'{"a":' + b"[" * 90 + b"]" * 90 + b"}"),
    QuarantineReason.NOT_JSON: arriving(2, data=b"\xff"),
    QuarantineReason.MALFORMED: arriving(2, hops="many"),
    QuarantineReason.UNKNOWN_SOURCE: arriving(2, source="/mall"),
    QuarantineReason.UNKNOWN_TYPE: arriving(2, type="sold"),
    QuarantineReason.UNKNOWN_VERSION: arriving(2, type="shop.sold.v2"),
    QuarantineReason.WRONG_SCHEMA: arriving(2, data=b'{"number":"two"}'),
    QuarantineReason.CONFLICT: arriving(1, data=payload(2), receipt=2),
}


# Kept aside


@pytest.mark.parametrize("reason", WRONG)
def test_what_cannot_be_read_is_kept_aside_as_it_came(reason):
    """With its reason, what its sender says of it, and its bytes, cut to the limit."""
    message = WRONG[reason]
    bring(arriving(1), message)
    (row,) = aside()
    assert (row.context, row.reason, row.state) == ("depot", reason, QuarantineState.QUARANTINED)
    assert (bytes(row.data), row.size) == (message.data[:LIMIT], len(message.data))
    assert json.loads(row.attributes) == message.attributes
    assert (row.source, row.type) == (message.attributes["source"], message.attributes["type"])
    assert row.message_id == message.attributes["id"]
    assert row.error


@pytest.mark.parametrize("reason", WRONG)
def test_the_others_of_a_batch_go_on(reason):
    """They are stored and handled; what is aside is neither, and all is acknowledged."""
    queued = bring(arriving(1), WRONG[reason], arriving(3))
    dispatch("depot")
    assert inbox(source="shop") == [1, 3]
    assert picks("watch") == [1, 3]
    assert queued.acknowledged == queued.messages


@pytest.mark.parametrize("reason", WRONG)
def test_what_comes_again_is_kept_once(reason):
    """Within a batch as well as later."""
    bring(arriving(1), WRONG[reason], WRONG[reason])
    bring(WRONG[reason])
    assert reasons() == [reason]


def test_messages_that_differ_in_anything_are_kept_each():
    """An attribute is enough to make two of them."""
    bring(arriving(1, hops="x"), arriving(1, hops="y"), arriving(1, hops="x", data=b"{}"))
    assert len(aside()) == 3


def test_an_id_with_another_payload_is_a_conflict_also_later():
    """The first that came is the one that counts."""
    bring(arriving(1))
    bring(arriving(1, data=payload(9)))
    assert (inbox(), reasons()) == ([1], [QuarantineReason.CONFLICT])
    assert InboxMessage.objects.get().payload.encode() == payload(1)


def test_each_context_keeps_its_own():
    """Both may have to look at the same message."""
    reason = QuarantineReason.NOT_JSON
    for label in ("depot", "shop"):
        quarantine_messages(get_context(label), [RefusedMessage(WRONG[reason], reason, "no")])
    assert [row.context for row in aside()] == ["depot", "shop"]


HOSTILE = {
    "NUL": {"id": "\0", "type": "\0", "source": "\0", "x\0": "\0"},
    "lone surrogates": {"id": "\ud800", "type": "\udfff", "source": "\ud800", "\ud800": "\ud800"},
    "bytes": {"id": b"\0\xff", "type": b"", "source": b"/shop"},
    "other types": {"id": 7, "type": None, "source": [], "time": timezone.now(), "x": {"a": {1, 2}}},
    "names that are none": {7: "seven", None: "nothing", "7": "seven"},
    "a long one": {"id": "a" * 1_000_000, "source": "b" * 1_000_000, "type": "c" * 1_000_000},
    "many": {f"x{number}": "y" * 100 for number in range(10_000)},
    "none": {},
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("size", [0, 10 * 1024 * 1024], ids=["empty", "10 MB"])
def test_hostile_values_are_kept_and_stop_nobody(what, size):
    """Whatever its attributes are made of, and however large it is."""
    hostile = ReceivedMessage(receipt=2, attributes=HOSTILE[what], data=b"\0" * size)
    bring(arriving(1), hostile, arriving(3))
    (row,) = aside()
    assert inbox(source="shop") == [1, 3]
    assert (row.size, len(row.data)) == (size, min(size, LIMIT))
    assert len(row.attributes) < 100_000
    assert isinstance(json.loads(row.attributes), dict)


def test_what_is_kept_aside_is_logged_without_its_data(caplog):
    """An error for the operator; the payload may be private."""
    logger = logging.getLogger("outbox_inbox")
    logger.addHandler(caplog.handler)
    bring(arriving(1, data=b'{"number":"secret"}'))
    logger.removeHandler(caplog.handler)
    (entry,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert "shop.sold.v1" in entry.getMessage()
    assert "secret" not in entry.getMessage()


# Release


def test_a_newer_version_is_released_after_the_deployment(deployed):
    """Nothing was lost while the subscriber did not know the version yet."""
    bring(arriving(1), new_version(2), new_version(3))
    deployed(Sold2)
    assert release(DEPOT) == Released(released=2)
    assert inbox() == [1, 2, 3]
    assert {row.state for row in aside()} == {QuarantineState.RELEASED}
    assert all(row.finished_at for row in aside())


def test_a_released_message_is_delivered_as_it_was_sent(deployed):
    """Byte for byte, and with a delivery for each of its consumers."""
    bring(new_version(2))
    deployed(Sold2, Sold)
    release(DEPOT)
    row = InboxMessage.objects.get()
    assert (row.payload.encode(), row.schema_version) == (new_version(2).data, 2)
    assert Delivery.objects.count() == len(get_context("depot").consumers_of("shop.sold"))
    assert Delivery.objects.count() > 0


def test_a_released_message_comes_behind_what_was_received_since(deployed):
    """Its place in the order of its key is gone."""
    bring(new_version(1), arriving(2))
    deployed(Sold2)
    release(DEPOT)
    assert inbox() == [2, 1]


def test_released_messages_keep_their_order_among_themselves(deployed, monkeypatch):
    """As they came, however many there are."""
    monkeypatch.setattr(quarantine, "_CHUNK", 2)
    bring(*(new_version(number) for number in (5, 3, 4, 1, 2)))
    deployed(Sold2)
    assert release(DEPOT).released == 5
    assert inbox() == [5, 3, 4, 1, 2]


def test_what_still_does_not_pass_stays_with_its_new_reason(deployed):
    """The version is known by now, and its data does not fit."""
    bring(arriving(1, type="shop.sold.v2"))
    deployed(Sold2)
    assert release(DEPOT) == Released(kept={QuarantineReason.WRONG_SCHEMA: 1})
    (row,) = aside()
    assert (row.reason, row.state) == (QuarantineReason.WRONG_SCHEMA, QuarantineState.QUARANTINED)
    assert "country" in row.error


@pytest.mark.parametrize(
    ("left", "reason"),
    [([], QuarantineReason.UNKNOWN_SOURCE), ([Sold], QuarantineReason.UNKNOWN_TYPE)],
)
def test_what_the_context_does_not_subscribe_to_any_more_stays(deployed, left, reason):
    """It could be a deployment that lags behind: nothing is thrown away."""
    deployed(Sold, Returned)
    bring(arriving(1, type="shop.returned.v2"))
    deployed(*left)
    Interest.objects.exclude(type__in=["shop.sold"] * len(left)).update(retired_at=timezone.now())
    assert release(DEPOT) == Released(kept={reason: 1})
    assert "shop" in aside()[0].error


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (WRONG[QuarantineReason.TOO_LARGE], QuarantineReason.TOO_LARGE),
        (arriving(1, headers=json.dumps({"a": "b" * 5_000})), QuarantineReason.MALFORMED),
    ],
    ids=["data", "attributes"],
)
def test_a_cut_message_cannot_be_released(settings, message, reason):
    """The rest of it is gone, also where the limit has been raised meanwhile."""
    bring(message)
    settings.OUTBOX_INBOX = WIRE
    assert release(DEPOT) == Released(kept={reason: 1}, cut=1)
    assert (inbox(), [row.state for row in aside()]) == ([], [QuarantineState.QUARANTINED])


def test_long_headers_are_kept_whole(deployed):
    """What is within the limit can be let in again."""
    bring(new_version(1, headers=json.dumps({"a": "b" * 500})))
    deployed(Sold2)
    assert release(DEPOT).released == 1


def test_what_is_no_text_does_not_become_one_by_being_kept():
    """A value that was refused for its type stays refused."""
    bring(arriving(1, subject=b"a"))
    assert release(DEPOT) == Released(kept={QuarantineReason.MALFORMED: 1})


def test_a_message_that_came_again_meanwhile_is_released_and_handled_once(deployed):
    """Its id is in the inbox, with the same payload: there is nothing left to do."""
    bring(new_version(1))
    deployed(Sold2)
    bring(new_version(1))
    assert release(DEPOT) == Released(released=1)
    assert inbox() == [1]


def test_a_conflict_stays_a_conflict():
    """Its id stands for something else, now as then."""
    bring(arriving(1), arriving(1, data=payload(2), receipt=2))
    assert release(DEPOT) == Released(kept={QuarantineReason.CONFLICT: 1})


def test_what_was_released_is_not_kept_aside_again(deployed):
    """The transport may hand it over once more."""
    bring(new_version(1))
    deployed(Sold2)
    release(DEPOT)
    bring(new_version(1))
    assert (inbox(), [row.state for row in aside()]) == ([1], [QuarantineState.RELEASED])


def test_a_second_release_finds_nothing(deployed):
    """Neither what is in, nor what was discarded."""
    bring(new_version(1), new_version(2))
    discard_quarantined(selected(2), "not needed")
    deployed(Sold2)
    assert [release(DEPOT).released, release(DEPOT).released] == [1, 0]
    assert inbox() == [1]


def test_a_dry_run_of_a_release_changes_nothing(deployed):
    """It says what would pass and what would not."""
    bring(new_version(1), arriving(2, type="shop.sold.v2"))
    before = list(QuarantinedMessage.objects.order_by("id").values())
    deployed(Sold2)
    expected = Released(released=1, kept={QuarantineReason.WRONG_SCHEMA: 1})
    assert release(DEPOT, dry_run=True) == expected
    assert (inbox(), list(QuarantinedMessage.objects.order_by("id").values())) == ([], before)
    assert release(DEPOT) == expected


@pytest.mark.postgres
def test_a_release_waits_for_the_receiver(deployed):
    """Otherwise the same message could be judged by two at a time."""
    bring(new_version(1))
    deployed(Sold2)
    with Worker() as other:
        begun = []

        def while_receiving(context, limit):
            if not begun:
                begun.append(other.start(release, DEPOT))
                eventually(waits_for_lock, "the release waits")
            return ()

        with playing(receive=while_receiving):
            receive()
        assert begun[0].result(PATIENCE).released == 1


SELECTIONS = {
    "all": ({}, [1, 2, 3, 4]),
    "id": ({"id": str(UUID(int=2))}, [2]),
    "reason": ({"reason": QuarantineReason.UNKNOWN_SOURCE}, [4]),
    "source": ({"source": "/mall"}, [4]),
    "source without its slash": ({"source": "mall"}, [4]),
    "type": ({"type": "shop.sold.v3"}, [3]),
    "type without its version": ({"type": "shop.sold"}, [1, 2, 3, 4]),
    "nothing": ({"type": "shop.so"}, []),
}


@pytest.mark.parametrize("what", SELECTIONS)
def test_an_operator_selects(what):
    """By what the sender says of the message, and by the reason."""
    wanted, numbers = SELECTIONS[what]
    others = arriving(3, type="shop.sold.v3"), arriving(4, source="/mall")
    bring(new_version(1), new_version(2), *others)
    assert discard_quarantined(QuarantineSelection(context="depot", **wanted), "x") == len(numbers)
    gone = [int(UUID(row.message_id)) for row in aside() if row.state == "discarded"]
    assert gone == numbers


def test_another_context_is_not_touched(deployed):
    """Each context's operator decides."""
    bring(new_version(1))
    QuarantinedMessage.objects.update(context="shop")
    assert discard_quarantined(DEPOT, "x") == 0
    assert release(DEPOT) == Released()


def test_there_must_be_such_a_context():
    """A misspelt label is an error, not an empty selection."""
    with pytest.raises(NotAContext, match="did you mean 'depot'"):
        release(QuarantineSelection(context="depott"))


# Discard


def test_a_discarded_message_keeps_the_reason():
    """An operator who finds it later wants to know."""
    bring(new_version(1))
    assert discard_quarantined(DEPOT, " sent by mistake ") == 1
    (row,) = aside()
    assert (row.state, row.note) == (QuarantineState.DISCARDED, "sent by mistake")
    assert (row.reason, row.finished_at is None) == (QuarantineReason.UNKNOWN_VERSION, False)


def test_a_reason_must_be_given_and_a_dry_run_only_counts():
    """Without a reason nothing is discarded, and in a dry run neither."""
    bring(new_version(1))
    with pytest.raises(ValueError, match="a reason must be given"):
        discard_quarantined(DEPOT, "  ")
    assert discard_quarantined(DEPOT, "x", dry_run=True) == 1
    assert aside()[0].state == QuarantineState.QUARANTINED


def test_what_was_discarded_and_comes_again_stays_discarded():
    """The decision holds for that very message."""
    bring(new_version(1))
    discard_quarantined(DEPOT, "x")
    bring(new_version(1))
    assert [row.state for row in aside()] == [QuarantineState.DISCARDED]


# Rows, for the admin


def test_rows_of_several_contexts_are_solved_together(deployed):
    """Each under the lock of its own context."""
    bring(new_version(1), new_version(2))
    QuarantinedMessage.objects.filter(message_id=str(UUID(int=2))).update(context="shop")
    deployed(Sold2)
    found = release_rows(QuarantinedMessage.objects.all())
    assert (found.released, found.staying) == (1, 1)
    assert discard_quarantined_rows(QuarantinedMessage.objects.all(), "x") == 1


def test_rows_of_a_context_that_lives_elsewhere_are_refused(settings):
    """Their ids would mean other rows there."""
    bring(new_version(1))
    rows = QuarantinedMessage.objects.all()
    settings.OUTBOX_INBOX = {**WIRE, "CONTEXTS": {"depot": {"database": "other"}}}
    with pytest.raises(OutboxInboxError, match="lives on 'other'"):
        release_rows(rows)


# Counted and pruned


def test_the_statistics_count_what_is_quarantined():
    """By reason, in the inbox of the context, and only what is not solved."""
    bring(new_version(1), new_version(2), arriving(3, source="/mall"), arriving(4, hops="x"))
    discard_quarantined(selected(4), "x")
    found = {(each.context, each.queue): each for each in queue_stats()}
    stats = found["depot", Queue.INBOX]
    assert stats.quarantine == {
        QuarantineReason.UNKNOWN_VERSION: 2,
        QuarantineReason.UNKNOWN_SOURCE: 1,
    }
    assert stats.quarantined == 3
    assert sum(each.quarantined for each in found.values()) == 3


def test_only_what_was_solved_is_pruned(deployed):
    """Released and discarded ones go after RETENTION; a quarantined one never."""
    bring(new_version(1), new_version(2), new_version(3), arriving(4, source="/mall"))
    deployed(Sold2)
    release(selected(1))
    discard_quarantined(selected(2), "x")
    long_ago = timezone.now() - timedelta(days=8)
    QuarantinedMessage.objects.update(received_at=long_ago)
    assert [each.quarantine for each in prune()] == [0] * len(prune())
    QuarantinedMessage.objects.exclude(finished_at=None).update(finished_at=long_ago)
    (found,) = [each for each in prune() if each.context == "depot"]
    assert (found.quarantine, found.total) == (2, 2)
    assert [int(UUID(row.message_id)) for row in aside()] == [3, 4]


def test_a_release_leaves_the_receiver_to_its_work(deployed):
    """The partition is free afterwards, and what comes next is received."""
    bring(new_version(1))
    deployed(Sold2)
    release(DEPOT)
    bring(new_version(2))
    assert inbox() == [1, 2]
    assert Partition.objects.get(context="depot", queue=Queue.INTAKE).run is None
