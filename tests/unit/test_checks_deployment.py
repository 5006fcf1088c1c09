import sys
from types import SimpleNamespace

import pytest
from django.db import connections

from outbox_inbox.checks.databases import check_options
from outbox_inbox.queues.wakeup import notifier
from tests.support.checked import REMOTE, ids, run, single

pytestmark = pytest.mark.usefixtures("fit_database")

MODELS = """
    from django.db import models

    class Invoice(models.Model): ...
"""


class ToOther:
    """Route the models of "billing" to another database."""

    def db_for_write(self, model, **_):
        return "other" if model._meta.app_label == "billing" else None


class Without(ToOther):
    """Keep the tables of an app away from it."""

    def __init__(self, label):
        self.label = label

    def allow_migrate(self, db, app_label, **_):
        return db == "default" if app_label == self.label else None


def routed(packages, database, router):
    """Check a context with a model, under this router."""
    packages.context("billing", f"database = {database!r}", models=MODELS)
    return run(packages, DATABASE_ROUTERS=[router])


def test_e006_models_elsewhere(packages):
    """State on another database than the queues cannot be committed with the events."""
    message = single("E006", routed(packages, "default", ToOther()))
    assert "billing.Invoice (other)" in message.msg


def test_e006_models_beside(packages):
    """State on the database of the queues is what is asked for."""
    assert routed(packages, "other", ToOther()) == []


def test_e006_unmanaged_models(packages):
    """A model that Django does not manage, such as a view of old data, may be anywhere."""
    unmanaged = MODELS.replace(": ...", ":\n        class Meta:\n            managed = False")
    packages.context("billing", models=unmanaged)
    assert run(packages, DATABASE_ROUTERS=[ToOther()]) == []


def test_e006_models_that_are_kept_away(packages):
    """Models that are written to a database where their tables are never made have none."""
    message = single("E006", routed(packages, "other", Without("billing")))
    assert "do not allow the tables of billing.Invoice" in message.msg


def test_e006_no_tables(packages):
    """A database that the routers keep free of the queues cannot hold them."""
    message = single("E006", routed(packages, "other", Without("outbox_inbox")))
    assert "do not allow the tables of outbox_inbox" in message.msg


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, ["W002"]),
        ({"transaction_mode": "IMMEDIATE"}, ["W002"]),
        ({"init_command": "PRAGMA journal_mode=WAL"}, ["W002"]),
        ({"transaction_mode": "immediate", "init_command": "pragma journal_mode = 'wal';"}, []),
        ({"transaction_mode": "EXCLUSIVE", "init_command": "PRAGMA journal_mode=WAL"}, []),
    ],
)
def test_w002_sqlite(packages, monkeypatch, options, found):
    """SQLite needs IMMEDIATE transactions and a write-ahead log."""
    configured = {"OPTIONS": options, "NAME": "queues.sqlite3"}
    monkeypatch.setattr(connections["default"], "settings_dict", configured)
    packages.context("shop")
    assert ids(packages) == found


@pytest.mark.sqlite
def test_w002_in_memory(packages, monkeypatch):
    """A database in memory has no write-ahead log to switch on."""
    configured = {"OPTIONS": {"transaction_mode": "IMMEDIATE"}, "NAME": ":memory:"}
    monkeypatch.setattr(connections["default"], "settings_dict", configured)
    packages.context("shop")
    assert ids(packages) == []


@pytest.mark.sqlite
def test_w002_other_databases(packages, monkeypatch):
    """The options of a SQLite database without queues do not matter."""
    monkeypatch.setitem(connections["other"].settings_dict, "OPTIONS", {})
    packages.context("shop")
    assert ids(packages) == []


CELERY = {"WAKE_UP": "celery"}
BEAT = {
    "relay": {"task": "outbox_inbox.relay_outbox", "schedule": 1},
    "dispatch": {"task": "outbox_inbox.dispatch_inbox", "schedule": 1},
}


@pytest.fixture
def celery_apps(monkeypatch):
    """The Celery apps of the process, none at first."""
    apps = []
    state = SimpleNamespace(_get_active_apps=lambda: list(apps))
    monkeypatch.setitem(sys.modules, "celery", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "celery._state", state)
    return apps


def celery_app(**conf):
    """Return what the checks need of a Celery app."""
    return SimpleNamespace(conf=conf, finalize=lambda auto: None)


def test_w003_no_beat(packages, celery_apps):
    """Wake-ups by Celery need the beat as their floor."""
    packages.context("shop")
    message = single("W003", run(packages, OUTBOX_INBOX=CELERY))
    assert "outbox_inbox.dispatch_inbox, outbox_inbox.relay_outbox:" in message.msg


def test_w003_no_wake_up(packages, celery_apps):
    """Without wake-ups no beat is needed: polling finds everything."""
    packages.context("shop")
    assert ids(packages, OUTBOX_INBOX={"WAKE_UP": None}) == []


@pytest.mark.sqlite
def test_e020(packages, monkeypatch):
    """With AUTOCOMMIT False nothing would ever be marked as sent or handled."""
    monkeypatch.setitem(connections["default"].settings_dict, "AUTOCOMMIT", False)
    packages.context("shop")
    assert "AUTOCOMMIT" in single("E020", run(packages)).msg


MYSQL_OPTIONS = [
    ({}, []),
    ({"charset": "utf8mb4"}, []),
    ({"init_command": "SET sql_mode='STRICT_TRANS_TABLES', NAMES utf8mb4"}, []),
    ({"charset": "utf8"}, ["E021"]),
    ({"charset": "utf8mb3"}, ["E021"]),
    ({"charset": "latin1"}, ["E021"]),
    ({"init_command": "SET NAMES 'latin1'"}, ["E021"]),
    ({"init_command": "SET character_set_results = latin1"}, ["E021"]),
    ({"init_command": "SET sql_mode='ORACLE'"}, ["E022"]),
    ({"sql_mode": "STRICT_TRANS_TABLES,EMPTY_STRING_IS_NULL"}, ["E022"]),
]


@pytest.mark.parametrize(("options", "found"), MYSQL_OPTIONS)
def test_e021_e022(monkeypatch, options, found):
    """What the SQL of the queues depends on is looked for in the OPTIONS of MySQL and MariaDB."""
    monkeypatch.setattr(connections["default"], "vendor", "mysql")
    monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", options)
    assert [each.id.partition(".")[2] for each in check_options("default")] == found


@pytest.mark.sqlite
def test_e021_other_databases(monkeypatch):
    """Other databases have other options."""
    monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", {"charset": "latin1"})
    assert list(check_options("default")) == []


def test_e013_notify_needs_postgresql(packages):
    """A database that cannot notify is reported at start, with the context that is stored there."""
    packages.context("shop")
    message = single("E013", run(packages, OUTBOX_INBOX={"WAKE_UP": "notify"}))
    assert "the context 'shop' is on the database 'default', which is SQLite" in message.msg


@pytest.mark.postgres
def test_e013_notify_on_postgresql(packages):
    """PostgreSQL can notify."""
    packages.context("shop")
    assert ids(packages, OUTBOX_INBOX={"WAKE_UP": "notify"}) == []


@pytest.mark.postgres
def test_e013_notify_needs_psycopg_3(packages, monkeypatch):
    """The older psycopg, which Django works with as well, has other ways to listen."""
    packages.context("shop")
    monkeypatch.setattr(notifier, "missing_driver", lambda: "it needs psycopg 3")
    (message,) = run(packages, OUTBOX_INBOX={"WAKE_UP": "notify"})
    assert message.msg == 'OUTBOX_INBOX["WAKE_UP"] is "notify", and it needs psycopg 3.'


def test_w003_entries_in_the_settings(packages, celery_apps):
    """Entries in CELERY_BEAT_SCHEDULE are entries."""
    packages.context("shop")
    assert ids(packages, OUTBOX_INBOX=CELERY, CELERY_BEAT_SCHEDULE=BEAT) == []


def test_w003_entries_in_the_app(packages, celery_apps):
    """Entries that the project's Celery app sets itself are entries."""
    celery_apps.append(celery_app(beat_schedule=BEAT))
    packages.context("shop")
    assert ids(packages, OUTBOX_INBOX=CELERY) == []


def test_w003_receiving(packages, celery_apps):
    """With a transport that is not local, receiving needs an entry as well."""
    packages.context("shop")
    (message,) = run(packages, OUTBOX_INBOX={**CELERY, **REMOTE}, CELERY_BEAT_SCHEDULE=BEAT)
    assert "no beat entry runs outbox_inbox.receive_messages:" in message.msg


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (["json", "pickle"], ["W005"]),
        (("application/x-python-serialize",), ["W005"]),
        (["json"], []),
    ],
)
def test_w005_pickle(packages, celery_apps, content, found):
    """Pickled content lets a client that writes to the broker run code."""
    packages.context("shop")
    assert ids(packages, CELERY_ACCEPT_CONTENT=content) == found


def test_w005_without_contexts(packages, celery_apps):
    """A project without contexts is free to do as it likes."""
    assert ids(packages, CELERY_ACCEPT_CONTENT=["pickle"]) == []


def test_w005_in_the_app(packages, celery_apps):
    """The accepted content of the project's Celery app is seen, too."""
    celery_apps.append(celery_app(accept_content={"pickle"}))
    packages.context("shop")
    assert ids(packages) == ["W005"]
