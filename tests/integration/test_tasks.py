"""The Celery tasks, called as functions: what they do, and which one they wake up next."""

import subprocess
import sys
from datetime import timedelta
from textwrap import dedent

import pytest

from outbox_inbox import tasks
from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import NotAContext
from outbox_inbox.inbox import dispatcher
from outbox_inbox.models import Delivery, OutboxMessage, Queue
from outbox_inbox.operations import pause
from outbox_inbox.queues import wakeup
from project.celery import app
from tests.shop.events import Checked, Noted
from tests.support.movers import (
    Worker,
    delivery_states,
    dispatch,
    entries,
    picks,
    put,
    relay,
    steps,
)

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture
def sent(monkeypatch, settings):
    """The nudges that went out, without the task's prefix; Celery wakes up."""
    settings.OUTBOX_INBOX = {**settings.OUTBOX_INBOX, "WAKE_UP": "celery"}
    found = []
    monkeypatch.setattr(
        wakeup.celery,
        "publish_task",
        lambda task, label: found.append((task.removeprefix("outbox_inbox."), label)),
    )
    return found


NAMES = (
    "relay_outbox",
    "receive_messages",
    "dispatch_inbox",
    "update_projections",
    "prune_messages",
)


@pytest.mark.parametrize("name", NAMES)
def test_tasks_have_stable_names_and_ask_to_be_repeated(name):
    """A worker that dies gives its wake-up to another, and no caller waits for a result."""
    task = app.tasks[f"outbox_inbox.{name}"]
    assert (task.acks_late, task.ignore_result) == (True, True)


def test_the_beat_has_an_entry_for_each_task():
    """A tick that was not taken until the next one is dropped."""
    found = tasks.beat_schedule()
    assert {entry["task"] for entry in found.values()} == {f"outbox_inbox.{name}" for name in NAMES}
    for entry in found.values():
        assert entry["options"]["expires"] == entry["schedule"].total_seconds()


def test_the_beat_ticks_as_often_as_one_likes():
    """Both intervals can be chosen."""
    found = tasks.beat_schedule(timedelta(seconds=5), prune_every=timedelta(days=1))
    assert found["outbox_inbox.relay_outbox"]["schedule"] == timedelta(seconds=5)
    assert found["outbox_inbox.prune_messages"]["schedule"] == timedelta(days=1)


def test_the_example_schedules_the_beat():
    """project/celery.py has the entries."""
    app.finalize()
    assert set(tasks.beat_schedule()) <= set(app.conf.beat_schedule)


@pytest.mark.parametrize(("label", "state"), [(None, "sent"), ("depot", "pending")])
def test_relay_outbox_relays_the_context_it_names(label, state):
    """Without a context it relays all; the others are left for their own tasks."""
    put(*steps(Noted, 1))
    tasks.relay_outbox(context=label)
    assert OutboxMessage.objects.get().state == state


def test_dispatch_inbox_dispatches():
    """What was relayed is handled."""
    put(*steps(Noted, 2))
    tasks.relay_outbox()
    tasks.dispatch_inbox()
    assert entries() == [1, 2]


def test_receive_messages_receives(settings):
    """What a transport carries gets into the inbox."""
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": "memory://"}}
    put(*steps(Checked, 1))
    tasks.relay_outbox()
    tasks.dispatch_inbox()
    tasks.relay_outbox()
    tasks.receive_messages(context="depot")
    assert delivery_states("watch") == ["ready"]


def test_prune_messages_prunes(settings):
    """What is older than the retention goes."""
    settings.OUTBOX_INBOX = {"RETENTION": timedelta(microseconds=1)}
    put(*steps(Noted, 1))
    tasks.relay_outbox()
    tasks.dispatch_inbox()
    tasks.prune_messages()
    assert not OutboxMessage.objects.exists()
    assert not Delivery.objects.exists()


def test_after_a_relay_those_who_got_something_are_woken_up(sent):
    """The context itself, and with local:// the dispatchers of its subscribers."""
    put(*steps(Checked, 1))
    sent.clear()
    tasks.relay_outbox("shop")
    assert sorted(sent) == [("dispatch_inbox", "depot"), ("dispatch_inbox", "shop")]


def test_after_a_relay_through_a_broker_the_receivers_are_woken_up(sent, settings):
    """The messages are at the transport, not in the inboxes."""
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": "memory://"}, "WAKE_UP": "celery"}
    put(*steps(Checked, 1))
    sent.clear()
    tasks.relay_outbox("shop")
    assert sorted(sent) == [("dispatch_inbox", "shop"), ("receive_messages", "depot")]


def test_after_receiving_the_dispatcher_is_woken_up(sent, settings):
    """The messages are in the inbox now."""
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": "memory://"}, "WAKE_UP": "celery"}
    put(*steps(Checked, 1))
    relay("shop")
    dispatch("shop")
    relay("shop")
    sent.clear()
    tasks.receive_messages("depot")
    assert sent == [("dispatch_inbox", "depot")]


def test_after_dispatching_the_relay_is_woken_up(sent):
    """A translator has made a contract."""
    put(*steps(Checked, 1))
    relay("shop")
    sent.clear()
    tasks.dispatch_inbox("shop")
    assert sent == [("relay_outbox", "shop")]


def test_a_task_that_finds_nothing_wakes_up_nobody(sent):
    """An empty system is silent."""
    for name in NAMES:
        app.tasks[f"outbox_inbox.{name}"]()
    assert sent == []


def test_nudges_alone_bring_a_message_all_the_way(sent):
    """Each step wakes up the next one, without beat and without polling."""
    put(*steps(Checked, 1))
    while sent:
        name, label = sent.pop(0)
        app.tasks[f"outbox_inbox.{name}"](label)
    assert picks() == [1]


@pytest.mark.postgres
@pytest.mark.mariadb
@pytest.mark.mysql
def test_a_task_that_finds_a_partition_taken_just_ends():
    """Another worker owns it."""
    put(*steps(Noted, 1))
    with Worker() as other, other.transaction():
        other.do(pause, get_context("shop"), Queue.OUTBOX)
        tasks.relay_outbox()
    assert OutboxMessage.objects.get().state == "pending"


def test_one_context_that_fails_does_not_keep_the_others_waiting(monkeypatch):
    """The error is raised at the end, and names the context."""
    put(*steps(Noted, 1))
    relay("shop")
    mover = dispatcher.dispatch_inbox

    def move(context, **options):
        if context.label == "ordering":
            raise ZeroDivisionError("a bug")
        return mover(context, **options)

    monkeypatch.setattr(dispatcher, "dispatch_inbox", move)
    with pytest.raises(ZeroDivisionError) as caught:
        tasks.dispatch_inbox()

    assert caught.value.__notes__ == ["in the context 'ordering'"]
    assert entries() == [1]


def test_errors_of_several_contexts_are_raised_together(monkeypatch):
    """None of them is hidden by another."""

    def move(context, **options):
        raise ZeroDivisionError(context.label)

    monkeypatch.setattr(dispatcher, "dispatch_inbox", move)
    with pytest.raises(ExceptionGroup) as caught:
        tasks.dispatch_inbox()

    assert len(caught.value.exceptions) == 4


def test_a_task_for_an_unknown_context_fails():
    """A worker with old code must not swallow a wake-up silently."""
    with pytest.raises(NotAContext):
        tasks.relay_outbox("shpo")


def test_a_task_ends_after_its_spell(monkeypatch):
    """A worker that is to stop does not wait for a backlog; the next tick goes on with it."""
    monkeypatch.setattr(tasks, "_RUN_TIME", timedelta(seconds=-1))
    put(*steps(Noted, 1))
    tasks.relay_outbox()
    assert OutboxMessage.objects.get().state == "pending"


def test_the_app_works_without_celery():
    """Only outbox_inbox.tasks needs it."""
    script = (
        "import sys; sys.modules['celery'] = None; sys.modules['kombu'] = None\n"
        "import django; from django.conf import settings\n"
        "settings.configure(INSTALLED_APPS=['outbox_inbox'], DATABASES={'default': {"
        "'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:'}})\n"
        "django.setup()\n"
        "from django.core.management import call_command\n"
        "call_command('migrate', verbosity=0); call_command('drain_outbox')\n"
        "import outbox_inbox.operations, outbox_inbox.operations.running, outbox_inbox.testing\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "Sent 0 messages.\n", "")


def test_the_entries_of_the_beat_expire_in_the_database_too():
    """django-celery-beat drops `expires`; its own name for it takes whole seconds, from 1."""
    found = tasks.beat_schedule(timedelta(seconds=0.2), prune_every=timedelta(seconds=90.5))
    seconds = {name: entry["options"]["expire_seconds"] for name, entry in found.items()}
    assert seconds.pop("outbox_inbox.prune_messages") == 91
    assert set(seconds.values()) == {1}


def run_script(script):
    """Run Python code in a process of its own; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", dedent(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_settings_may_make_the_schedule():
    """They are loaded before any app, and the tasks are registered all the same."""
    said = run_script("""
        import sys, types
        module = types.ModuleType("settings")
        sys.modules["settings"] = module
        exec("from outbox_inbox.tasks import beat_schedule\\n"
             "INSTALLED_APPS = ['outbox_inbox']\\n"
             "CELERY_BEAT_SCHEDULE = beat_schedule()", module.__dict__)
        import os
        os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
        import django
        django.setup()
        from celery import Celery
        app = Celery("project")
        app.config_from_object("django.conf:settings", namespace="CELERY")
        tasks = {each["task"] for each in app.conf.beat_schedule.values()}
        print(sorted(tasks - app.tasks.keys()), len(tasks))
    """)
    assert said == "[] 5\n"


def test_eager_tasks_need_not_be_imported_by_the_project():
    """Without a worker nothing has imported them, and the commit calls them all the same."""
    said = run_script("""
        import sys
        sys.path.insert(0, ".")
        from django.conf import settings
        settings.configure(
            INSTALLED_APPS=["django.contrib.contenttypes", "outbox_inbox", "tests.shop", "tests.depot"],
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
            USE_TZ=True, OUTBOX_INBOX={"WAKE_UP": "celery"},
        )
        import django
        django.setup()
        from celery import Celery
        app = Celery("project", broker="memory://", set_as_current=True)
        app.conf.task_always_eager = True
        from django.core.management import call_command
        call_command("migrate", run_syncdb=True, verbosity=0)
        from django.db import transaction
        from outbox_inbox import record
        from outbox_inbox.models import OutboxMessage
        from outbox_inbox.queues import wakeup
        from tests.shop.events import Noted
        assert "outbox_inbox.tasks" not in sys.modules
        with transaction.atomic():
            record(Noted(order="a", number=1))
        print(OutboxMessage.objects.get().state, wakeup.failures())
    """)
    assert said == "sent 0\n"
