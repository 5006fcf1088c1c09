"""``local://`` and ``memory://``, and what a transport is given."""

from uuid import UUID

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import SettingsError
from outbox_inbox.models import Delivery, InboxMessage, OutboxMessage, Partition, Queue
from outbox_inbox.queues import intake
from outbox_inbox.transports import transport
from outbox_inbox.transports.local import LocalTransport
from outbox_inbox.transports.memory import MemoryTransport
from tests.depot.models import Pick
from tests.shop.contracts import Sold
from tests.shop.events import Checked, Noted
from tests.support import wire
from tests.support.movers import (
    come_due,
    crash,
    crashing,
    deliver,
    dispatch,
    picks,
    put,
    relay,
    run_all,
    states,
    steps,
    striking,
)
from tests.support.script import playing
from tests.support.wire import WIRE

pytestmark = pytest.mark.usefixtures("committed")

APART = {"CONTEXTS": {"depot": {"database": "other"}}}
BEFORE_THE_COMMIT = [
    "relay.after_lock",
    "relay.after_select",
    "relay.before_publish",
    "receive.after_read",
    "receive.after_insert",
    "relay.after_publish",
    "relay.before_mark",
    "relay.after_mark",
]


@pytest.fixture
def apart(settings):
    """The depot lives on another database than the shop."""
    settings.OUTBOX_INBOX = APART


def inbox(using="default"):
    """Return the payloads in the depot's inbox, in order."""
    rows = InboxMessage.objects.using(using).filter(context="depot").order_by("id")
    return list(rows.values_list("payload", flat=True))


def payloads(*numbers):
    """Return the payloads of steps."""
    return [f'{{"number":{number},"order":"a"}}' for number in numbers]


# local://, on one database


def test_local_moves_a_contract_in_one_transaction():
    """It is sent when it has arrived, and no sooner or later."""
    deliver(*steps(Sold, 2))
    assert (states(), inbox()) == (["sent", "sent"], payloads(1, 2))
    dispatch("depot")
    assert picks("watch") == [1, 2]


@pytest.mark.parametrize("point", BEFORE_THE_COMMIT)
def test_local_on_one_database_has_both_or_neither(point):
    """A crash anywhere before the commit leaves the outbox and both inboxes as they were."""
    put(*steps(Sold, 2), *steps(Noted, [3]))
    with crashing(), striking(point, crash):
        relay()
    assert (set(states()), InboxMessage.objects.count()) == ({"pending"}, 0)
    relay()
    assert (set(states()), inbox()) == ({"sent"}, payloads(1, 2))
    assert InboxMessage.objects.count() == 3


def test_a_crash_after_the_commit_changes_nothing():
    """The commit was all there was to do."""
    put(*steps(Sold, 2))
    with crashing(), striking("relay.after_commit", crash):
        relay()
    relay()
    assert (states(), inbox()) == (["sent", "sent"], payloads(1, 2))


def test_a_contract_without_a_subscriber_is_sent():
    """There is no subscriber to wait for."""
    put(*steps(Sold, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "outbox_inbox.transports.local._subscribers", lambda source, messages: iter(())
        )
        relay()
    assert (states(), inbox()) == (["sent"], [])


def test_text_is_moved_and_never_read():
    """The relay has no opinion on what a message says; its consumers have."""
    put(*steps(Sold, 1), *steps(Noted, 1))
    OutboxMessage.objects.update(payload="{]", headers="neither")
    relay()
    assert set(InboxMessage.objects.values_list("payload", "headers")) == {("{]", "neither")}


def test_local_does_not_even_fetch_the_text():
    """On one database it is copied by the database itself."""
    put(*steps(Sold, 1), *steps(Noted, 1))
    with CaptureQueriesContext(connection) as queries:
        relay()
    fetching = [q["sql"] for q in queries if q["sql"].startswith("SELECT m.id, m.kind")]
    assert fetching
    assert all("THEN m.payload" not in sql for sql in fetching)  # only how long it is


# local://, on two databases


def test_local_copies_a_contract_to_another_database(apart):
    """Byte for byte, to be handled there."""
    put(*steps(Checked, 2), headers={"who": "ÿ"})
    run_all()
    assert inbox() == []
    assert [p for p in inbox("other") if "order" in p][:2] == payloads(1, 2)
    rows = Pick.objects.using("other").filter(consumer="pick").order_by("id")
    assert list(rows.values_list("number", flat=True)) == [1, 2]


def test_the_copy_has_all_that_the_original_has(apart):
    """Ids, causes, hops, key and time."""
    deliver(*steps(Checked, 1), headers={"who": "ÿ"})
    dispatch()
    relay()
    sent = OutboxMessage.objects.get(type="shop.sold")
    there = InboxMessage.objects.using("other").get()
    for name in (
        "message_id", "type", "schema_version", "key", "key_hash", "payload", "headers",
        "correlation_id", "causation_id", "hops", "recorded_at",
    ):  # fmt: skip
        assert getattr(there, name) == getattr(sent, name), name
    assert there.causation_id is not None


@pytest.mark.parametrize("point", BEFORE_THE_COMMIT)
def test_local_on_two_databases_repeats_and_drops(apart, point):
    """A crash between the two commits sends again, and the inbox knows the message (O1, O7)."""
    put(*steps(Sold, 2))
    with crashing(), striking(point, crash):
        relay()
    assert set(states()) == {"pending"}
    arrived = len(inbox("other"))
    assert arrived == (
        2 if point in {"relay.after_publish", "relay.before_mark", "relay.after_mark"} else 0
    )
    relay()
    assert (states(), inbox("other")) == (["sent", "sent"], payloads(1, 2))
    assert Delivery.objects.using("other").count() == 4


def test_another_database_that_is_out_of_reach_is_an_outage(apart, monkeypatch):
    """No attempt is counted; everything arrives when it is back."""
    put(*steps(Sold, 2))
    with monkeypatch.context() as patch:
        patch.setattr(intake, "insert_messages", gone)
        for _ in range(12):
            relay()
            come_due()
    assert set(OutboxMessage.objects.values_list("state", "attempts")) == {("pending", 0)}
    resting = Partition.objects.get(context="shop", queue=Queue.OUTBOX)
    assert resting.outages == 12
    assert "'other'" in resting.error
    relay()
    assert inbox("other") == payloads(1, 2)


def gone(*_):
    """Be a database that does not answer."""
    raise OperationalError("the server is gone")


# memory://


@pytest.fixture
def wired(settings):
    """A transport that notes what it confirms."""
    settings.OUTBOX_INBOX = WIRE
    wire.confirmed.clear()


@pytest.fixture
def memory(settings):
    """A broker in this process, which begins empty."""
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": "memory://"}}
    return transport("default")


def test_memory_gives_nobody_what_they_do_not_listen_to(memory):
    """A context gets nothing of its own, and nothing of those it has no contract with."""
    deliver(*steps(Sold, 2))
    shop = get_context("shop")
    assert (memory.has_messages(shop), memory.receive(shop, 10)) == (False, [])


def test_an_acknowledgement_that_comes_late_takes_nothing_back(memory):
    """Acknowledging less than before changes nothing."""
    deliver(*steps(Sold, 3))
    depot = get_context("depot")
    first, everything = memory.receive(depot, 1), memory.receive(depot, 3)
    memory.acknowledge(depot, everything)
    memory.acknowledge(depot, first)
    assert memory.receive(depot, 10) == []


# What a transport is given


def test_a_transport_is_told_everything_about_a_message(wired):
    """What it needs to carry it, and what the other side needs to place it."""
    (cause,) = deliver(Checked(order="a", number=1), headers={"who": "ÿ"})
    dispatch()
    relay()
    (message,) = wire.confirmed
    row = OutboxMessage.objects.get(type="shop.sold")
    assert (message.row, message.id, message.time) == (row.id, row.message_id, row.recorded_at)
    assert (message.type, message.version, message.key) == ("shop.sold", 1, "a")
    assert message.key_hash == row.key_hash
    assert (message.correlation_id, message.causation_id, message.hops) == (cause.id, cause.id, 1)
    assert (message.headers, message.data) == ("{}", '{"number":1,"order":"a"}')
    assert isinstance(message.id, UUID)
    assert message.time.tzinfo is not None


def test_headers_are_carried_as_they_were_recorded(wired):
    """The transport gets the text that record() stored."""
    deliver(Sold(order="a", number=1), headers={"z": "1", "a": "ÿ"})
    assert wire.confirmed[0].headers == '{"a":"ÿ","z":"1"}'


# Which transport


def test_a_transport_is_made_once_a_process(settings):
    """It may hold connections; new settings make a new one."""
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"bus": "memory://", "default": "local://"}}
    made = transport("bus")
    assert isinstance(made, MemoryTransport)
    assert transport("bus") is made
    assert isinstance(transport("default"), LocalTransport)
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"bus": "memory://"}}
    assert transport("bus") is not made


def test_a_transport_gets_its_settings(settings):
    """Location and options are its own affair."""
    entry = {"BACKEND": "tests.support.wire.Wire", "LOCATION": "wire://x", "OPTIONS": {"a": 1}}
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": entry}}
    found = transport("default").settings
    assert (found.location, dict(found.options)) == ("wire://x", {"a": 1})


def test_each_context_may_have_its_own_transport(settings):
    """Chosen in the settings, without a change of code."""
    settings.OUTBOX_INBOX = {
        "TRANSPORTS": {"bus": {"BACKEND": "tests.support.wire.Wire"}},
        "CONTEXTS": {"shop": {"transport": "bus"}},
    }
    wire.confirmed.clear()
    deliver(*steps(Sold, 1))
    assert (len(wire.confirmed), inbox()) == (1, [])


@pytest.mark.parametrize(
    ("backend", "problem"),
    [
        ("tests.nowhere.Wire", "cannot import"),
        ("tests.support.wire.Cable", "cannot import"),
        ("tests.support.wire.refusing", "not a subclass of Transport"),
        ("uuid.UUID", "not a subclass of Transport"),
    ],
)
def test_a_backend_that_is_no_transport_is_refused(settings, backend, problem):
    """With the path of the setting, and before any message is touched."""
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": {"BACKEND": backend}}}
    put(*steps(Sold, 1))
    with pytest.raises(SettingsError, match=problem):
        relay()
    assert OutboxMessage.objects.get().attempts == 0
    assert not Partition.objects.filter(run__isnull=False).exists()


def test_an_unknown_alias_names_the_known_ones():
    """A misspelt alias is easily found."""
    with pytest.raises(SettingsError, match="default"):
        transport("defualt")


def test_the_wire_plays_what_a_test_gives_it(wired):
    """Without a part it confirms everything."""
    put(*steps(Sold, 2))
    with playing(publish=wire.refusing(lambda message: True)):
        assert relay().failed == 1
