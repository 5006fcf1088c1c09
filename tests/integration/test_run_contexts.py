"""The long-running process: it works, idles cheaply, survives, and ends on a signal."""

import logging
import threading
from contextlib import ExitStack
from datetime import timedelta
from time import monotonic
from unittest.mock import patch

import pytest
from django.db import OperationalError, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from outbox_inbox.contexts import contexts, get_context
from outbox_inbox.inbox.dispatcher import dispatch_inbox
from outbox_inbox.models import Delivery, Partition
from outbox_inbox.operations import MOVERS, running
from outbox_inbox.operations.running import run
from outbox_inbox.queues import statements
from tests.acceptance.conftest import Processes, new_store, processes  # noqa: F401  fixtures
from tests.shop.events import Checked, Noted
from tests.support.movers import (
    PATIENCE,
    Worker,
    delivery_states,
    end_other_sessions,
    entries,
    eventually,
    picks,
    put,
    steps,
)
from tests.support.script import playing

committed = pytest.mark.usefixtures("committed")

BOTH = ("shop", "depot")


class Rounds:
    """Stops a runner after some pauses; a test may act in each of them."""

    def __init__(self, pauses=1, act=None):
        self.pauses = pauses
        self.act = act
        self.waited = []

    def stop(self):
        """Return whether there were enough."""
        return len(self.waited) >= self.pauses

    def wait(self, seconds):
        """Take the place of a pause."""
        self.waited.append(seconds)
        if self.act is not None:
            self.act(len(self.waited))


def run_both(pauses=1, act=None, **options):
    """Run the shop and the depot for some pauses."""
    rounds = Rounds(pauses, act)
    run([get_context(label) for label in BOTH], stop=rounds.stop, wait=rounds.wait, **options)
    return rounds


@pytest.fixture
def failures(monkeypatch):
    """Errors that movers are to raise, by kind of work: one is taken from the list each time."""
    planned = {work: [] for work in MOVERS}

    def failing(work, mover):
        def move(context, **options):
            if planned[work]:
                raise planned[work].pop(0)
            return mover(context, **options)

        return move

    movers = {work: failing(work, mover) for work, mover in MOVERS.items()}
    monkeypatch.setattr(running, "MOVERS", movers)
    return planned


@pytest.fixture
def log(caplog):
    """What the runner has logged."""
    caplog.set_level(logging.INFO, "outbox_inbox.operations.running")
    logging.getLogger("outbox_inbox").propagate = True
    yield lambda: [
        each for each in caplog.records if each.name == "outbox_inbox.operations.running"
    ]
    logging.getLogger("outbox_inbox").propagate = False


@pytest.fixture
def pass_time(monkeypatch):
    """Takes seconds, by which the clock of the outages goes on; else it stands still."""
    now = monotonic()
    monkeypatch.setattr("outbox_inbox.queues.outages.monotonic", lambda: now)

    def go_on(seconds):
        nonlocal now
        now += seconds

    return go_on


@committed
def test_a_message_goes_all_the_way_before_the_first_pause():
    """Nothing waits for a poll between one step and the next."""
    put(Checked(order="a", number=1))
    run_both(pauses=1)
    assert picks() == [1]


@committed
def test_what_comes_during_a_pause_is_found_after_it():
    """The runner polls."""
    run_both(pauses=2, act=lambda pause: put(Noted(order="a", number=pause)))
    assert entries() == [1]


class Statements:
    """Notes what is executed on both databases within the block, transactions included."""

    def __init__(self):
        self.ran = []
        self._patches = ExitStack()

    def __enter__(self):
        for each in connections.all():
            self._patches.enter_context(each.execute_wrapper(self._note))
        begin = BaseDatabaseWrapper.set_autocommit

        def note(connection, autocommit, *arguments, **options):
            self.ran.append(f"autocommit {autocommit}")
            return begin(connection, autocommit, *arguments, **options)

        self._patches.enter_context(patch.object(BaseDatabaseWrapper, "set_autocommit", note))
        return self

    def __exit__(self, *error):
        self._patches.close()

    def _note(self, execute, sql, parameters, many, info):
        self.ran.append(sql)
        return execute(sql, parameters, many, info)


@committed
def test_an_idle_round_is_one_statement_for_all_contexts():
    """A process that has nothing to do does not burden the database."""
    run_both()
    with Statements() as statements:
        run_both(pauses=1)

    assert len(statements.ran) == 1


@committed
def test_an_idle_round_is_one_statement_for_each_database(settings):
    """Contexts that live apart are asked apart."""
    settings.OUTBOX_INBOX = {"CONTEXTS": {"depot": {"database": "other"}}}
    run_both(pauses=2)  # a process makes partitions, and asks once whether it has a stream to relay
    with Statements() as statements:
        run_both(pauses=1)
    assert len(statements.ran) == 2


@committed
def test_after_something_moved_each_context_is_looked_at_anew(monkeypatch):
    """What one has moved may be the next one's work; where nothing has, there is no second query."""
    put(*steps(Noted, 1))
    run_both()
    put(*steps(Noted, [2]))
    looks = []
    look = statements.all_partition_statuses

    def note(connection, labels):
        looks.append(list(labels))
        return look(connection, labels)

    monkeypatch.setattr(statements, "all_partition_statuses", note)
    run_both(pauses=1)
    first = [list(BOTH), ["shop"], ["depot"]]  # relay; then look, dispatch; then look
    assert looks == [*first, list(BOTH)]
    assert entries() == [1, 2]


@pytest.mark.parametrize("url", ["local://", "memory://"])
@pytest.mark.parametrize("announced", [True, False])
@committed
def test_an_idle_minute_is_a_statement_a_second(settings, url, announced):
    """However the contexts are joined and woken up; time is what the pauses add up to."""
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": url}}
    seconds = 0.0

    def wait(pause):
        nonlocal seconds
        seconds += pause

    owners = [get_context(label) for label in BOTH]
    options = {"wait": wait, "announced": lambda: announced}
    run(owners, stop=lambda: seconds > 10, **options)
    seconds = 0.0
    with Statements() as statements:
        run(owners, stop=lambda: seconds > 60, **options)

    # Without wake-ups a run begins with short pauses: 0.05, 0.1, 0.2, 0.4 and 0.8 s.
    assert len(statements.ran) <= 60 + (1 if announced else 5)


@committed
@pytest.mark.postgres
def test_health_checks_of_connections_are_no_statements_of_idle_rounds(monkeypatch):
    """CONN_HEALTH_CHECKS and CONN_MAX_AGE are for requests; here they would double the cost."""
    connection.close()
    monkeypatch.setitem(connections["default"].settings_dict, "CONN_MAX_AGE", 600)
    monkeypatch.setitem(connections["default"].settings_dict, "CONN_HEALTH_CHECKS", True)
    run_both()
    with Statements() as statements:
        run_both(pauses=3)
    assert len(statements.ran) == 3
    connection.close()


@committed
@pytest.mark.parametrize("which", [{"queue": "inbox"}, {"queue": "outbox"}])
def test_partitions_that_are_paused_are_not_worked_on(which):
    """The look around leaves them out, whatever is in them."""
    put(*steps(Noted, 1))
    Partition.objects.filter(context="shop", **which).update(paused=True)
    run_both()
    assert entries() == []


@committed
def test_a_partition_that_rests_costs_no_more_than_the_look():
    """An outage of hours is not asked about by every statement there is."""
    put(*steps(Noted, 1))
    resting = timezone.now() + timedelta(hours=1)
    Partition.objects.filter(context="shop", queue="outbox").update(retry_at=resting)
    run_both()
    with Statements() as statements:
        run_both(pauses=1)
    assert len(statements.ran) == 1


@committed
def test_settings_that_are_not_in_force_are_told(settings, caplog):
    """The look around does so, once, also while there is nothing to do."""
    run_both()
    settings.OUTBOX_INBOX = {"PARTITIONS": {"outbox": 3}}
    run_both(pauses=2)
    told = [each.getMessage() for each in caplog.records if "shop:" in each.getMessage()]
    assert [text.partition(": run")[2] for text in told] == [" manage.py repartition to change it"]


@pytest.mark.parametrize(
    ("options", "pauses"),
    [
        pytest.param({}, [0.05, 0.1, 0.2, 0.4, 0.8, 1, 1], id="default"),
        pytest.param({"interval": 0.08}, [0.05, 0.08, 0.08], id="interval"),
        pytest.param({"announced": lambda: True}, [1, 1], id="woken-up"),
    ],
)
@committed
def test_pauses_grow_up_to_the_interval(options, pauses):
    """Soon after something moved the next thing is likely; a process that is woken up need not poll."""
    assert run_both(pauses=len(pauses), **options).waited == pauses


@committed
def test_pauses_begin_anew_when_something_moved():
    """It is woken up by its own work."""

    def act(pause):
        if pause == 4:
            put(*steps(Noted, 1))

    assert run_both(pauses=6, act=act).waited == [0.05, 0.1, 0.2, 0.4, 0.05, 0.1]


@committed
def test_what_was_moved_is_reported():
    """Step by step, and only what changed something."""
    put(*steps(Noted, 1))
    found = []
    run_both(report=lambda step: found.append((step.context.label, step.mover, step.outcome.done)))
    assert found == [("shop", "relay", 1), ("shop", "dispatch", 2)]


@committed
def test_only_the_chosen_contexts_are_run():
    """Another process may have the others."""
    put(Checked(order="a", number=1))
    rounds = Rounds()
    run([get_context("shop")], stop=rounds.stop, wait=rounds.wait)
    assert Delivery.objects.filter(context="depot").exists()
    assert picks() == []


@committed
def test_an_unexpected_error_of_one_context_does_not_stop_the_others(monkeypatch, log):
    """It is logged with its traceback, and the other contexts go on."""

    def move(context, **options):
        if context.label == "shop":
            raise ZeroDivisionError("a bug")
        return dispatch_inbox(context, **options)

    monkeypatch.setattr(running, "MOVERS", {**MOVERS, "dispatch": move})
    put(Checked(order="a", number=1))
    run_both(pauses=1)
    dispatch_inbox(get_context("shop"))
    run_both(pauses=1)
    assert picks() == [1]
    assert log()[0].getMessage().startswith("cannot dispatch shop: ZeroDivisionError: a bug")
    assert log()[0].exc_info


@committed
def test_one_kind_of_work_that_fails_does_not_stop_the_other_kinds(failures):
    """While a transport is out of reach, what has arrived is handled."""
    put(*steps(Noted, 1))
    failures["receive"] = [ZeroDivisionError("a bug")] * 2
    run_both()
    assert entries() == [1]


@committed
def test_after_a_failure_it_stays_away_for_a_growing_while(failures, log, pass_time):
    """A broken database is not hammered: the pauses are about 1, 2, 4 … seconds."""
    failures["relay"] = [OperationalError("no route")] * 99
    put(*steps(Noted, 1))
    rounds = Rounds(3, lambda pause: pass_time(10))
    run([get_context("shop")], stop=rounds.stop, wait=rounds.wait)
    pauses = [float(each.getMessage().rpartition("in ")[2].split()[0]) for each in log()]
    assert all(
        0.8 <= pause / expected <= 1 for pause, expected in zip(pauses, (1, 2, 4), strict=True)
    )
    assert len(failures["relay"]) == 96


@committed
def test_an_outage_of_the_database_is_one_line_in_the_log(failures, log):
    """The traceback of a refused connection would explain nothing."""
    failures["relay"] = [OperationalError("no route")]
    put(*steps(Noted, 1))
    run_both()
    assert not log()[0].exc_info


@committed
def test_it_says_when_it_works_again(failures, log, pass_time):
    """The log that reports an outage reports its end as well."""
    failures["relay"] = [OperationalError("no route")]
    put(*steps(Noted, 1))
    rounds = Rounds(2, lambda pause: pass_time(2))
    run([get_context("shop")], stop=rounds.stop, wait=rounds.wait)
    assert log()[-1].getMessage() == "can relay shop again"


@committed
@pytest.mark.postgres
@pytest.mark.mariadb
@pytest.mark.mysql
def test_it_goes_on_after_its_connection_was_cut():
    """The database was restarted: the runner opens a new connection and loses nothing."""
    end, looked = threading.Event(), threading.Event()

    def wait(seconds):
        looked.set()
        end.wait(seconds)

    with Worker() as worker:
        running_ = worker.start(run, contexts(), interval=0.01, stop=end.is_set, wait=wait)
        assert looked.wait(PATIENCE)
        end_other_sessions()
        put(*steps(Noted, 3))
        eventually(lambda: entries() == [1, 2, 3], "the messages are handled")
        end.set()
        running_.result(PATIENCE)


@committed
def test_several_runners_share_the_work():
    """Each message is handled once, in the order of its key."""
    put(*[step for order in "abcdef" for step in steps(Noted, 20, order)])
    rounds = [Rounds(5), Rounds(5)]
    with Worker() as one, Worker() as two:
        futures = [
            worker.start(run, contexts(), stop=each.stop, wait=each.wait)
            for worker, each in zip((one, two), rounds, strict=True)
        ]
        for future in futures:
            future.result(PATIENCE)
    run_both()
    for order in "abcdef":
        assert entries(order=order) == list(range(1, 21))


@committed
def test_a_connection_is_kept_between_rounds(monkeypatch):
    """CONN_MAX_AGE = 0 is meant for requests: four connections a second would be opened."""
    monkeypatch.setitem(connections["default"].settings_dict, "CONN_MAX_AGE", 0)
    connection.ensure_connection()
    before = connection.connection
    run_both(pauses=2)
    assert connection.connection is before


@committed
def test_a_delivery_that_backs_off_is_left_alone():
    """A runner does not spin on what is not due."""

    def fail(event):
        raise ValueError("not now")

    put(*steps(Noted, 1))
    with playing(note=fail):
        rounds = run_both(pauses=3)

    assert len(rounds.waited) == 3
    assert delivery_states("note") == ["ready"]
