"""Movers of older code beside newer code: they move what they do not know, or leave it."""

import logging

import pytest
from django.db import connections, transaction

from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import OutboxInboxError, TransportUnavailable
from outbox_inbox.inbox import receiver
from outbox_inbox.models import (
    Checkpoint,
    Delivery,
    DeliveryAttempt,
    InboxMessage,
    Interest,
    InterestKind,
    OutboxMessage,
    Partition,
    ProcessState,
    QuarantinedMessage,
)
from outbox_inbox.operations import running
from outbox_inbox.operations.rebuilding import rebuild
from outbox_inbox.queues import interests
from outbox_inbox.queues.interests import confirm_interests
from outbox_inbox.streams.projecting import update_projections
from tests.board.events import Annulled, Scored
from tests.board.models import HighScore
from tests.shop.contracts import Sold
from tests.shop.events import Noted
from tests.support.arriving import arriving, bring
from tests.support.deployments import OlderCode
from tests.support.movers import come_due, dispatch, put, receive, relay, steps
from tests.support.wire import WIRE
from tests.yard.events import Begun, Moved

pytestmark = pytest.mark.usefixtures("committed")

STREAM = {"CONTEXTS": {"shop": {"source": "stream"}}}
APART = {"CONTEXTS": {"depot": {"database": "other"}}}
OUTBOX = {"CONTEXTS": {}}
NEW_CONSUMER = OlderCode(consumers=["note"])
NEW_TYPE = OlderCode(types=["shop.Noted"])
NEW_CONTRACT = OlderCode(contracts=["shop.sold"], types=["shop.sold"])
NEW_CONTEXT = OlderCode(contexts=["depot"])

each_source = pytest.mark.parametrize(
    "source", [OUTBOX, pytest.param(STREAM, marks=pytest.mark.catch_up)], ids=["outbox", "stream"]
)


def newer_contract(name, version=1, using="default"):
    """Let the database know that newer code of the depot subscribes to a contract, and handles it."""
    confirm_interests(using)
    row = Interest.objects.using(using).get(
        context="depot", kind=InterestKind.CONTRACT, type="shop.sold"
    )
    if name == row.type:
        Interest.objects.using(using).filter(pk=row.pk).update(schema_version=version)
        return
    row.pk, row.type, row.schema_version = None, name, version
    row.save(using=using, force_insert=True)
    consumer = Interest.objects.using(using).filter(kind=InterestKind.CONSUMER, context="depot")
    made = consumer.get(type="shop.sold", name="depot.handlers.watch")
    made.pk, made.type = None, name
    made.save(using=using, force_insert=True)


# The relay


@each_source
@pytest.mark.parametrize("older", [NEW_CONSUMER, NEW_TYPE], ids=["consumer", "type"])
def test_an_older_relay_makes_deliveries_of_a_new_consumer(settings, source, older):
    """It does not have it, and the newer process gets what it has moved."""
    settings.OUTBOX_INBOX = source
    confirm_interests("default")
    put(*steps(Noted, 3))
    with older.running():
        relay()
    dispatch()
    assert Delivery.objects.filter(consumer="shop.handlers.note", state="done").count() == 3


@each_source
@pytest.mark.parametrize("older", [NEW_CONTRACT, NEW_CONTEXT], ids=["contract", "context"])
@pytest.mark.parametrize("apart", [False, True], ids=["same database", "another database"])
def test_an_older_relay_serves_a_new_subscription(settings, source, older, apart):
    """Of a context that it has without the subscription, or of one that it does not have at all."""
    depot = {"depot": {"database": "other"}} if apart else {}
    settings.OUTBOX_INBOX = {"CONTEXTS": {**source["CONTEXTS"], **depot}}
    for alias in ("default", "other"):
        confirm_interests(alias)
    put(*steps(Sold, 3))
    with older.running():
        relay()
    dispatch("depot")
    alias = "other" if apart else "default"
    done = Delivery.objects.using(alias).filter(consumer="depot.handlers.watch", state="done")
    assert done.count() == 3


def outage():
    """Return why the relay of the shop backs off."""
    return Partition.objects.get(context="shop", retry_at__isnull=False).error


def test_a_relay_waits_for_a_database_that_does_not_know_its_subscriber_yet(settings):
    """Its consumers are unknown there: the messages would lie in the inbox without a delivery."""
    settings.OUTBOX_INBOX = APART
    confirm_interests("default")
    Interest.objects.using("other").all().delete()
    put(*steps(Sold, 1))
    with NEW_CONTEXT.running():
        relay()
    assert not InboxMessage.objects.using("other").exists()
    assert OutboxMessage.objects.get().state == "pending"
    assert "run manage.py migrate --database other" in outage()


def test_the_messages_go_when_that_database_knows_it(settings):
    """After its first process of the newer code."""
    settings.OUTBOX_INBOX = APART
    confirm_interests("default")
    Interest.objects.using("other").all().delete()
    put(*steps(Sold, 1))
    with NEW_CONTEXT.running():
        relay()
    interests._confirmed.clear()
    confirm_interests("other")
    come_due()
    with NEW_CONTEXT.running():
        relay()
    assert Delivery.objects.using("other").filter(consumer="depot.handlers.watch").exists()


def test_a_relay_leaves_what_goes_to_a_database_that_it_does_not_have():
    """A process of the newer code sends it."""
    confirm_interests("default")
    Interest.objects.filter(context="depot", kind=InterestKind.CONTRACT).update(alias="elsewhere")
    put(*steps(Sold, 1))
    with NEW_CONTEXT.running():
        relay()
    assert OutboxMessage.objects.get().attempts == 0
    assert "'elsewhere'" in outage()


def test_a_contract_without_a_subscription_goes_nowhere():
    """The relay does not take what it does not know for wanted."""
    confirm_interests("default")
    Interest.objects.filter(context="depot", kind=InterestKind.CONTRACT).delete()
    with NEW_CONTEXT.running():
        put(*steps(Sold, 1))
        relay()
    assert (OutboxMessage.objects.get().state, InboxMessage.objects.count()) == ("sent", 0)


# The receiver


@pytest.fixture
def wired(settings):
    """A transport that a test holds in its hands."""
    settings.OUTBOX_INBOX = WIRE


@pytest.mark.parametrize(
    ("name", "version"), [("shop.whispered", 1), ("shop.sold", 2)], ids=["contract", "version"]
)
def test_an_older_receiver_stores_what_newer_code_wants(wired, name, version):
    """An acknowledgement without it would lose it."""
    newer_contract(name, version)
    bring(arriving(type=f"{name}.v{version}"))
    assert (InboxMessage.objects.get().type, QuarantinedMessage.objects.count()) == (name, 0)
    assert Delivery.objects.filter(consumer="depot.handlers.watch").exists()


def test_an_older_receiver_quarantines_a_version_that_no_code_reads(wired):
    """As before: version 3, where the newest code reads 2."""
    newer_contract("shop.sold", 2)
    bring(arriving(type="shop.sold.v3"))
    assert QuarantinedMessage.objects.get().reason == "unknown_version"


def test_an_older_receiver_ignores_what_no_code_subscribes_to(wired):
    """As before: it is acknowledged and dropped."""
    newer_contract("shop.whispered")
    queued = bring(arriving(type="shop.shouted.v1"))
    assert (len(queued.acknowledged), InboxMessage.objects.count()) == (1, 0)


def test_a_batch_asks_once_what_newer_code_wants(wired):
    """And not for each message of it."""
    newer_contract("shop.whispered")
    asked = []

    def count(execute, sql, *rest):
        asked.append("outbox_inbox_interest" in sql and "schema_version" in sql)
        return execute(sql, *rest)

    with connections["default"].execute_wrapper(count):
        bring(*[arriving(number, type="shop.whispered.v1") for number in range(1, 6)])
    assert (sum(asked), InboxMessage.objects.count()) == (1, 5)


def test_an_older_receiver_leaves_what_it_cannot_verify(settings):
    """Only newer code has the keys of a new source: unverified, a forged message would get in."""
    keys = {"keys": {"k": "x" * 32}}
    settings.OUTBOX_INBOX = {**WIRE, "CONTEXTS": {"depot": {"verifying": {"shop": keys}}}}
    newer_contract("mall.sold")
    with pytest.raises(TransportUnavailable, match="verify"):
        bring(arriving(source="/mall", type="mall.sold.v1"))
    assert not InboxMessage.objects.exists()


def test_a_released_message_has_the_deliveries_of_this_process(wired):
    """An operator's command is a process as well: it stores what its code has before."""
    bring(arriving(number=1))
    Interest.objects.all().delete()
    interests._confirmed.clear()
    with transaction.atomic():
        receiver.admit(get_context("depot"), [arriving(number=2)])
    assert Delivery.objects.filter(message__message_id__endswith="2").count() == 2


@pytest.mark.redis
def test_over_redis_an_older_receiver_stores_what_newer_code_wants(bus):
    """The stream of a source has all its contracts."""
    newer_contract("shop.sold", 2)
    put(*steps(Sold, 2))
    OutboxMessage.objects.update(schema_version=2)
    relay()
    receive()
    assert InboxMessage.objects.filter(context="depot", schema_version=2).count() == 2


@pytest.mark.rabbitmq
def test_over_rabbitmq_an_older_receiver_stores_what_newer_code_wants(rabbit):
    """Both codes share the queue, for which the newer one has made another binding."""
    receive()
    newer_contract("shop.sold", 2)
    put(*steps(Sold, 2))
    OutboxMessage.objects.update(schema_version=2)
    relay()
    receive()
    assert InboxMessage.objects.filter(context="depot", schema_version=2).count() == 2


# Projections


@pytest.mark.catch_up
@pytest.mark.usefixtures("boarded")
@pytest.mark.parametrize(
    "older",
    [OlderCode(types=["board.Annulled"]), OlderCode(versions={"board.Annulled": 0})],
    ids=["type", "version"],
)
def test_an_older_projection_stops_before_what_the_read_model_wants(older, caplog):
    """It handles what is in front of it, says so once, and the newer process goes on from there."""
    confirm_interests("default")
    put(Scored(player="ann", points=3), Annulled(player="ann", points=1), stream="ann")
    put(Scored(player="ann", points=5), stream="ann")
    with older.running(), caplog.at_level(logging.WARNING, "outbox_inbox.streams"):
        for _ in range(3):
            update_projections(get_context("board"), only=["high_score"])
        assert dict(HighScore.objects.values_list("player", "points")) == {"ann": 3}
    assert len([each for each in caplog.messages if "'high_score'" in each]) == 1
    assert Checkpoint.objects.get(subscription="high_score").failures == 0
    update_projections(get_context("board"), only=["high_score"])
    assert dict(HighScore.objects.values_list("player", "points")) == {"ann": 7}


@pytest.mark.catch_up
@pytest.mark.usefixtures("boarded")
def test_a_process_whose_read_models_wait_for_newer_code_pauses():
    """It looks once between two pauses, and does not spin."""
    confirm_interests("default")
    put(Annulled(player="ann", points=1), Scored(player="ann", points=5), stream="ann")
    pauses: list[float] = []
    with OlderCode(types=["board.Annulled"]).running():
        while relay("board").steps + dispatch("board").steps:
            pass
        update_projections(get_context("board"))
        running.run(
            [get_context("board")],
            stop=lambda: len(pauses) >= 4,
            wait=pauses.append,
            report=lambda turn: pytest.fail(f"{turn} has moved something"),
        )
    assert pauses == sorted(pauses)


@pytest.mark.catch_up
@pytest.mark.usefixtures("boarded")
def test_an_older_rebuild_stops_before_what_the_read_model_wants():
    """The read model that the newer code keeps stays as it is."""
    confirm_interests("default")
    put(Scored(player="ann", points=3), Annulled(player="ann", points=1), stream="ann")
    update_projections(get_context("board"))
    older = OlderCode(types=["board.Annulled"])
    with older.running(), pytest.raises(OutboxInboxError, match="newer code"):
        rebuild(get_context("board"), get_context("board").read_models["high_score"])
    assert dict(HighScore.objects.values_list("player", "points")) == {"ann": 2}


# Processes


@pytest.fixture
def begun(yarded):
    """An instance of a process with a state that newer code has stored."""
    put(Begun(order="a"))
    relay("yard")
    dispatch("yard")
    assert ProcessState.objects.update(schema_version=3) == 1


def move_yard(*places):
    """Let something be moved for the instance."""
    for place in places:
        put(Moved(order="a", place=place), key="k")
    relay("yard")
    return dispatch("yard")


@pytest.mark.usefixtures("begun")
def test_a_state_of_newer_code_is_left(caplog):
    """No attempt is counted, and the log says it once."""
    with caplog.at_level(logging.WARNING, "outbox_inbox.inbox"):
        outcome = move_yard("hall", "yard")
        come_due()
        dispatch("yard")
    assert (outcome.failed, DeliveryAttempt.objects.count()) == (0, 0)
    assert {row.attempts for row in Delivery.objects.exclude(state="done")} == {0}
    assert len([each for each in caplog.messages if "too old" in each]) == 1


@pytest.mark.usefixtures("begun")
def test_a_state_that_was_left_goes_on_with_newer_code():
    """In the order of the key, after a short while."""
    move_yard("hall", "yard")
    ProcessState.objects.update(schema_version=2)
    come_due()
    dispatch("yard")
    assert '"moved hall","moved yard"' in ProcessState.objects.get().state
    assert not Partition.objects.filter(retry_at__isnull=False).exists()
