"""Nudges: after the commit, once, and never to the harm of the use case."""

import socket
from time import monotonic
from uuid import uuid4

import kombu
import pytest
from celery import Celery
from django.db import transaction

from outbox_inbox import record, tasks
from outbox_inbox.contexts import get_context
from outbox_inbox.models import OutboxMessage, Queue
from outbox_inbox.operations import Selection, retry
from outbox_inbox.queues import wakeup
from outbox_inbox.testing import drain
from tests.board.events import Scored
from tests.shop.events import Checked, Noted
from tests.support.movers import deliver, put

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture(autouse=True)
def celery_wakes_up(settings):
    """The setting that asks for nudges, and nothing remembered of earlier ones."""
    settings.OUTBOX_INBOX = {"WAKE_UP": "celery"}
    wakeup.celery.failures.reset()


@pytest.fixture
def sent(monkeypatch):
    """The nudges that went out: task and label."""
    found = []
    monkeypatch.setattr(
        wakeup.celery, "publish_task", lambda task, label: found.append((task, label))
    )
    return found


def note(order="a", number=1):
    """Return an event."""
    return Noted(order=order, number=number)


RELAY_SHOP = ("outbox_inbox.relay_outbox", "shop")


def test_a_commit_wakes_up_the_relay(sent):
    """What was recorded is announced, with the label of its context."""
    put(note())
    assert sent == [RELAY_SHOP]


def test_nothing_is_sent_before_the_commit(sent):
    """A worker that was woken up too early would find nothing."""
    with transaction.atomic():
        record(note())
        assert sent == []


def test_a_rollback_wakes_up_nobody(sent):
    """There is nothing to do."""
    with transaction.atomic():
        record(note())
        transaction.set_rollback(True)
    assert sent == []


def test_many_records_of_a_transaction_are_one_nudge(sent):
    """A thousand events cost one round trip to the broker."""
    with transaction.atomic():
        for number in range(5):
            record(note(number=number))
            with transaction.atomic():
                record(note(number=number))
    assert sent == [RELAY_SHOP]


def test_each_transaction_is_announced(sent):
    """The second one comes when the first one's worker may be done."""
    for number in range(2):
        put(note(number=number))
    assert sent == [RELAY_SHOP] * 2


def test_what_is_recorded_after_a_savepoint_was_rolled_back_is_announced(sent):
    """The hook goes with the savepoint; the next record must not believe it is still there."""
    with transaction.atomic():
        with transaction.atomic():
            record(note(number=1))
            transaction.set_rollback(True)
        record(note(number=2))
    assert sent == [RELAY_SHOP]


def test_a_savepoint_that_is_rolled_back_takes_no_earlier_nudge_along(sent):
    """What was recorded before it is announced."""
    with transaction.atomic():
        record(note(number=1))
        with transaction.atomic():
            record(note(number=2))
            transaction.set_rollback(True)
    assert sent == [RELAY_SHOP]


def test_contexts_of_a_transaction_are_announced_each(sent):
    """One nudge a context and kind of work."""
    with transaction.atomic():
        for label in ("shop", "depot", "shop"):
            wakeup.nudge(get_context(label))
        wakeup.nudge(get_context("shop"), "dispatch")
    assert sorted(sent) == [
        ("outbox_inbox.dispatch_inbox", "shop"),
        ("outbox_inbox.relay_outbox", "depot"),
        ("outbox_inbox.relay_outbox", "shop"),
    ]


def test_a_nudge_belongs_to_the_transaction_of_its_own_database(sent, settings):
    """A commit elsewhere says nothing about the context's rows."""
    settings.OUTBOX_INBOX = {"WAKE_UP": "celery", "CONTEXTS": {"shop": {"database": "other"}}}
    with transaction.atomic(using="other"):
        with transaction.atomic(using="default"):
            record(note())
        assert sent == []
    assert sent == [RELAY_SHOP]


def test_without_the_setting_nothing_is_sent(sent, settings):
    """By default work is found by polling."""
    settings.OUTBOX_INBOX = {}
    put(note())
    assert sent == []


@pytest.mark.sqlite
def test_where_nobody_can_be_notified_nothing_happens(sent, settings):
    """The check says so; the use case goes on as with polling."""
    settings.OUTBOX_INBOX = {"WAKE_UP": "notify"}
    put(note())
    assert sent == []
    assert wakeup.failures() == 0
    assert drain().done == 3


def test_what_translators_make_is_announced(sent):
    """The contract in the shop's outbox has to be sent on."""
    deliver(Checked(order="a", number=1))
    sent.clear()
    drain()
    assert RELAY_SHOP in sent


def test_a_retry_is_announced(sent):
    """An operator does not wait for the next beat."""
    put(note())
    OutboxMessage.objects.update(state="dead", holds=True)
    sent.clear()
    retry(Selection(context="shop", queue=Queue.OUTBOX))
    assert sent == [RELAY_SHOP]


@pytest.mark.catch_up
def test_an_event_in_a_stream_wakes_up_the_read_models_too(sent, boarded):
    """They follow the stream, and not the outbox."""
    put(Scored(player="ann", points=1), stream="ann")
    assert set(sent) == {
        (f"outbox_inbox.{task}", "board") for task in ("relay_outbox", "update_projections")
    }


@pytest.mark.catch_up
def test_an_event_in_no_stream_wakes_up_no_read_model(sent, boarded):
    """Nothing has changed for them."""
    put(Scored(player="ann", points=1))
    assert sent == [("outbox_inbox.relay_outbox", "board")]


# Work that commits often


def test_equal_nudges_of_one_piece_of_work_are_gathered(sent, monkeypatch):
    """The first goes out at once, the rest as one at the end."""
    monkeypatch.setattr(wakeup, "_DEBOUNCE", 60)
    with wakeup.debounced_nudges():
        for number in range(20):
            put(note(number=number))
        assert sent == [RELAY_SHOP]
    assert sent == [RELAY_SHOP] * 2


def test_a_single_nudge_is_not_repeated_at_the_end(sent):
    """Nothing came after it."""
    with wakeup.debounced_nudges():
        put(note())
    assert sent == [RELAY_SHOP]


def test_gathered_nudges_go_out_again_after_a_while(sent, monkeypatch):
    """A long piece of work goes on waking up others."""
    monkeypatch.setattr(wakeup, "_DEBOUNCE", 0)
    with wakeup.debounced_nudges():
        for number in range(3):
            put(note(number=number))
    assert sent == [RELAY_SHOP] * 3


# The broker

each_scheme = pytest.mark.parametrize("scheme", ["redis://", "amqp://guest:guest@"])


@pytest.fixture
def broker():
    """A function that makes an app for a broker the current one of Celery."""
    from project.celery import app as before

    made = []

    def use(url, **conf):
        app = Celery("test", broker=url)
        app.conf.update(conf)
        app.set_current()
        made.append(app)
        return app

    yield use
    before.set_current()
    for app in made:
        app.close()


def waiting(app, queue):
    """Return the wake-ups that wait at the broker."""
    found = []
    with app.connection_for_read() as connection:
        bound = kombu.Queue(queue).bind(connection.default_channel)
        bound.declare()
        while (message := bound.get(no_ack=True)) is not None:
            found.append((message.headers["task"], message.payload[1], message.headers))
    return found


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("redis_url", marks=pytest.mark.redis),
        pytest.param("amqp_url", marks=pytest.mark.rabbitmq),
    ],
)
def test_a_nudge_gets_to_the_broker(broker, url, request):
    """It names the task and the context, and expires."""
    queue = f"outbox_inbox-test-{uuid4().hex}"
    app = broker(request.getfixturevalue(url), task_default_queue=queue)
    waiting(app, queue)
    put(note())
    ((task, arguments, headers),) = waiting(app, queue)
    with app.connection_for_write() as connection:
        kombu.Queue(queue, channel=connection.default_channel).delete()
    assert (task, arguments) == ("outbox_inbox.relay_outbox", {"context": "shop"})
    assert headers["expires"]
    assert headers["ignore_result"] is True


@each_scheme
def test_a_broker_that_is_down_does_no_harm(broker, scheme, caplog):
    """The use case is committed, the failure counted and told in one line."""
    broker(f"{scheme}127.0.0.1:1/0")
    begin = monotonic()
    put(note())
    assert monotonic() - begin < 5
    assert wakeup.failures() == 1
    assert drain().done == 3
    (line,) = [
        each.getMessage() for each in caplog.records if each.name == "outbox_inbox.queues.wakeup"
    ]
    assert line.startswith("cannot wake up a worker to relay shop: ")


@each_scheme
def test_a_broker_that_does_not_answer_costs_a_second_at_most(broker, scheme):
    """A connection that is taken and never served does not hang the use case."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        broker(f"{scheme}127.0.0.1:{silent.getsockname()[1]}/0")
        begin = monotonic()
        put(note())
        assert monotonic() - begin < 5
        assert wakeup.failures() == 1


def test_after_a_failure_the_broker_is_left_alone_for_a_while(broker):
    """Of a thousand use cases during an outage one waits, not all of them."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        broker(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        put(note())
        begin = monotonic()
        for number in range(50):
            put(note(number=number))
        assert monotonic() - begin < 10
        assert wakeup.failures() == 51


def test_eager_tasks_run_in_the_commit(broker):
    """CELERY_TASK_ALWAYS_EAGER does at once what a worker would do."""
    app = broker("memory://", task_always_eager=True)
    assert tasks.relay_outbox.name in app.tasks
    put(note())
    assert drain().done == 0
