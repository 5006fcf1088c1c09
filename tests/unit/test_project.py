"""The example project: what its environment may say, and what it is packed as."""

import re
import runpy
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from tests import services

ROOT = Path(__file__).resolve().parents[2]
VARIABLES = (
    "CONTEXTS",
    "DATABASE_URL",
    "ORDERING_SOURCE",
    "SHIPPING_DATABASE_URL",
    "TRANSPORT_URL",
    "TRANSPORT_PREFIX",
    "CELERY_BROKER_URL",
    "SIGNING_KEYS",
    "SIGNATURES_REQUIRED",
    "SECRET_KEY",
    "DEBUG",
    "ALLOWED_HOSTS",
)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    """Load the settings module as a new process with these variables would."""

    def load_with(**variables: str) -> dict[str, Any]:
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return runpy.run_path(str(ROOT / "project/settings.py"))

    return load_with


def test_the_default_database_is_a_file_beside_manage_py(load):
    """With nothing set, the database is the SQLite file db.sqlite3 of the project."""
    assert load()["DATABASES"]["default"]["NAME"] == str(ROOT / "db.sqlite3")


def test_sqlite_is_used_durably_and_with_several_writers(load):
    """SQLite takes its write lock at BEGIN, keeps a WAL, and syncs each commit."""
    options = load(DATABASE_URL="sqlite:///x.sqlite3")["DATABASES"]["default"]["OPTIONS"]
    assert options["transaction_mode"] == "IMMEDIATE"
    assert options["init_command"] == "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL"


def test_options_in_the_url_win(load):
    """An option in the query of a SQLite URL replaces the project's own."""
    options = load(DATABASE_URL="sqlite:///x.sqlite3?timeout=7")["DATABASES"]["default"]["OPTIONS"]
    assert options["timeout"] == 7


@pytest.mark.parametrize(("scheme", "engine"), [("mysql", "mysql"), ("postgres", "postgresql")])
def test_a_server_by_url(load, scheme, engine):
    """Its parts arrive. MySQL and MariaDB are one vendor; READ COMMITTED is asked for by Django."""
    entry = load(DATABASE_URL=f"{scheme}://me:secret@db:3307/shop")["DATABASES"]["default"]
    assert entry["ENGINE"] == f"django.db.backends.{engine}"
    assert (entry["HOST"], entry["PORT"], entry["NAME"]) == ("db", 3307, "shop")
    assert "isolation_level" not in entry.get("OPTIONS", {})
    assert scheme == "mysql" or entry["CONN_HEALTH_CHECKS"] is True


EMPTY = {"DATABASE_URL": "", "TRANSPORT_URL": "", "DEBUG": "", "OUTBOX_INBOX_BATCH_SIZE": " "}
FAULTS = {"OUTBOX_INBOX_FAULTS": "relay.after_publish:kill@3", "OUTBOX_INBOX_ALLOW_FAULTS": "1"}


@pytest.mark.parametrize("given", [{}, EMPTY, FAULTS], ids=["nothing", "empty", "faults"])
def test_nothing_set_means_local_and_no_broker(load, given):
    """No key signs and Celery is not woken up; an empty variable, or one of the fault points, sets nothing."""
    assert load(**given)["OUTBOX_INBOX"] == {"TRANSPORTS": {"default": "local://"}}


SECRETS = {"new": "the first secret; it is quite long", "old": "the second secret; it is longer"}


def test_the_first_key_signs_and_all_of_them_are_accepted(load):
    """SIGNING_KEYS is one ring for both contexts, and each of them verifies the other."""
    given = ",".join(f"{keyid}:{secret}" for keyid, secret in SECRETS.items())
    found = load(SIGNING_KEYS=given, SHIPPING_DATABASE_URL="sqlite:///shipping.sqlite3")
    assert found["OUTBOX_INBOX"]["CONTEXTS"] == {
        "ordering": {
            "signing": {"keys": SECRETS, "sign_with": "new"},
            "verifying": {"shipping": {"keys": SECRETS, "required": True}},
        },
        "shipping": {
            "database": "shipping",
            "signing": {"keys": SECRETS, "sign_with": "new"},
            "verifying": {"ordering": {"keys": SECRETS, "required": True}},
        },
    }


def test_signatures_need_not_be_required(load):
    """While one side does not sign yet."""
    found = load(SIGNING_KEYS="a:" + "s" * 32, SIGNATURES_REQUIRED="no")["OUTBOX_INBOX"]
    assert found["CONTEXTS"]["shipping"]["verifying"]["ordering"]["required"] is False


@pytest.mark.parametrize("wrong", ["secret-without-an-id", ":secret", "a:", "a:secret,secret"])
def test_keys_that_are_none_are_refused_without_showing_them(load, wrong):
    """The variable is named, its secrets are not."""
    with pytest.raises(ImproperlyConfigured, match="SIGNING_KEYS") as caught:
        load(SIGNING_KEYS=wrong)
    assert "secret-without" not in str(caught.value)
    assert "a:secret" not in str(caught.value)


def test_a_database_of_its_own_for_shipping(load):
    """SHIPPING_DATABASE_URL adds the database "shipping" and puts the context there."""
    settings = load(SHIPPING_DATABASE_URL="postgres://me@db/shipping")
    assert settings["DATABASES"]["shipping"]["NAME"] == "shipping"
    assert settings["OUTBOX_INBOX"]["CONTEXTS"] == {"shipping": {"database": "shipping"}}


def test_ordering_may_be_its_own_source(load):
    """ORDERING_SOURCE=stream takes the outbox away from ordering, where that is deployed."""
    assert load(ORDERING_SOURCE="stream")["OUTBOX_INBOX"]["CONTEXTS"] == {
        "ordering": {"source": "stream"}
    }
    assert "CONTEXTS" not in load(ORDERING_SOURCE="stream", CONTEXTS="shipping")["OUTBOX_INBOX"]


@pytest.mark.parametrize(
    ("given", "apps"),
    [
        ("", ["context_a", "context_b"]),
        ("ordering", ["context_a"]),
        ("shipping", ["context_b"]),
        (" shipping, ordering", ["context_a", "context_b"]),
    ],
)
def test_a_deployment_has_the_contexts_it_names(load, given, apps):
    """CONTEXTS says which contexts this deployment has; all of them when it says nothing."""
    installed = load(CONTEXTS=given)["INSTALLED_APPS"]
    assert [name for name in installed if name.startswith("context_")] == apps


@pytest.mark.parametrize("given", ["billing", "ordering,billing", "Ordering", ",", "ordering;"])
def test_a_context_that_does_not_exist_is_refused(load, given):
    """A label that is none stops the start with an error that names those there are."""
    with pytest.raises(
        ImproperlyConfigured, match=r"CONTEXTS holds .*; expected some of ordering, shipping"
    ):
        load(CONTEXTS=given)


def test_the_database_of_a_context_that_is_elsewhere_is_not_opened(load):
    """SHIPPING_DATABASE_URL is shipping's affair: without that context it has no effect."""
    settings = load(CONTEXTS="ordering", SHIPPING_DATABASE_URL="postgres://me@db/shipping")
    assert (list(settings["DATABASES"]), settings["OUTBOX_INBOX"].get("CONTEXTS")) == (
        ["default"],
        None,
    )


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("redis://h/0", {"PREFIX": "mine"}),
        ("amqp://h//", {"PREFIX": "mine", "QUEUE_PREFIX": "mine"}),
    ],
)
def test_a_prefix_keeps_systems_on_one_broker_apart(load, url, options):
    """TRANSPORT_PREFIX begins all names at the broker: streams, exchanges, queues."""
    settings = load(TRANSPORT_URL=url, TRANSPORT_PREFIX="mine")
    assert settings["OUTBOX_INBOX"]["TRANSPORTS"] == {
        "default": {"LOCATION": url, "OPTIONS": options}
    }


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("redis://u:p%40w@h:1/0", "redis://u@h:1/0"),
        ("redis://:p%40w@h", "redis://h"),
        ("amqp://u:p%40w@h:5672//", "amqp://u@h:5672//"),
    ],
)
def test_a_password_is_taken_out_of_the_url_of_the_broker(load, url, location):
    """It goes where the error mails of Django hide it."""
    assert load(TRANSPORT_URL=url)["OUTBOX_INBOX"]["TRANSPORTS"] == {
        "default": {"LOCATION": location, "OPTIONS": {"PASSWORD": "p@w"}}
    }


@pytest.mark.parametrize("url", ["amqp://u:top[x@h//", "redis://u:a#b@h", "redis://h/0"])
def test_another_url_of_a_broker_stays_as_it_is(load, url):
    """The transport says what is wrong with it, without showing it."""
    assert load(TRANSPORT_URL=url)["OUTBOX_INBOX"]["TRANSPORTS"] == {"default": url}


def test_error_mails_of_the_example_hide_urls(load):
    """Such as that of Celery's broker, and variables of the environment."""
    path = load()["DEFAULT_EXCEPTION_REPORTER_FILTER"]
    hiding = import_string(path)().cleanse_setting
    shown = {name: hiding(name, "x") for name in ("CELERY_BROKER_URL", "DATABASE_URL", "USE_TZ")}
    assert [name for name, value in shown.items() if value == "x"] == ["USE_TZ"]


@pytest.mark.parametrize(
    ("contexts", "queue"),
    [
        ("", "celery"),
        ("ordering", "celery.ordering"),
        ("shipping", "celery.shipping"),
        ("shipping,ordering", "celery.ordering.shipping"),
    ],
)
def test_each_deployment_has_a_celery_queue_of_its_own(load, contexts, queue):
    """Deployments that share Celery's broker do not take each other's tasks."""
    assert load(CONTEXTS=contexts)["CELERY_TASK_DEFAULT_QUEUE"] == queue


@pytest.mark.parametrize(
    ("more", "way"), [({}, "celery"), ({"OUTBOX_INBOX_WAKE_UP": "notify"}, "notify")]
)
def test_a_broker_wakes_up_celery(load, more, way):
    """CELERY_BROKER_URL makes commits wake up Celery's workers, unless WAKE_UP asks for another way."""
    assert load(CELERY_BROKER_URL="amqp://h//", **more)["OUTBOX_INBOX"]["WAKE_UP"] == way


def test_celery_takes_json_only(load):
    """A worker accepts JSON and nothing that could run code."""
    assert load()["CELERY_ACCEPT_CONTENT"] == ["json"]


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("BATCH_SIZE", "100", {"BATCH_SIZE": 100}),
        ("BATCH_TIME", "250ms", {"BATCH_TIME": timedelta(milliseconds=250)}),
        ("PARTITIONS_OUTBOX", "2", {"PARTITIONS": {"outbox": 2}}),
        ("PARTITIONS_INBOX", "16", {"PARTITIONS": {"inbox": 16}}),
        ("MAX_ATTEMPTS", "3", {"MAX_ATTEMPTS": 3}),
        ("BACKOFF_FIRST", "1.5s", {"BACKOFF": {"first": timedelta(seconds=1.5)}}),
        ("BACKOFF_FACTOR", "2", {"BACKOFF": {"factor": 2.0}}),
        ("BACKOFF_MAXIMUM", "10m", {"BACKOFF": {"maximum": timedelta(minutes=10)}}),
        ("BACKOFF_JITTER", "0.1", {"BACKOFF": {"jitter": 0.1}}),
        ("PUBLISH_TIMEOUT", "5s", {"PUBLISH_TIMEOUT": timedelta(seconds=5)}),
        ("FROZEN_AFTER", "1m", {"FROZEN_AFTER": timedelta(minutes=1)}),
        ("RETENTION", "7d", {"RETENTION": timedelta(days=7)}),
        ("DEDUPLICATION", "720h", {"DEDUPLICATION": timedelta(days=30)}),
        ("MAX_PAYLOAD", "1000", {"MAX_PAYLOAD": 1000}),
        ("MAX_HOPS", "8", {"MAX_HOPS": 8}),
        ("WAKE_UP", "celery", {"WAKE_UP": "celery"}),
    ],
)
def test_every_key_can_come_from_the_environment(load, variable, value, expected):
    """OUTBOX_INBOX_<KEY> sets the key, with its type."""
    setting = load(**{f"OUTBOX_INBOX_{variable}": value})["OUTBOX_INBOX"]
    assert setting == {"TRANSPORTS": {"default": "local://"}, **expected}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OUTBOX_INBOX_BATCH_SIZE", "many"),
        ("OUTBOX_INBOX_BATCH_SIZE", "-1"),
        ("OUTBOX_INBOX_BATCH_SIZE", "1.5"),
        ("OUTBOX_INBOX_BATCH_TIME", "250"),
        ("OUTBOX_INBOX_RETENTION", "7 weeks"),
        ("OUTBOX_INBOX_BACKOFF_FACTOR", "nan"),
        ("OUTBOX_INBOX_BATCH_SISE", "5"),
        ("DATABASE_URL", "db.sqlite3"),
        ("DATABASE_URL", "oracle10://host/x"),
        ("DATABASE_URL", "postgres://me@host:port/x"),
        ("SHIPPING_DATABASE_URL", "nonsense"),
        ("DEBUG", "ture"),
    ],
)
def test_nonsense_is_refused_by_name(load, variable, value):
    """A value that cannot be meant stops the start with an error that names the variable."""
    with pytest.raises(ImproperlyConfigured, match=rf"\b{variable}\b"):
        load(**{variable: value})


def test_a_misspelt_variable_gets_a_suggestion(load):
    """An unknown OUTBOX_INBOX_ variable is answered with the one that was probably meant."""
    with pytest.raises(ImproperlyConfigured, match=r"did you mean OUTBOX_INBOX_BATCH_SIZE\?"):
        load(OUTBOX_INBOX_BATCHSIZE="5")


def test_a_refused_url_keeps_its_password(load):
    """The error about a database URL does not show the password in it."""
    with pytest.raises(ImproperlyConfigured) as refusal:
        load(DATABASE_URL="postgres://me:secret@host:port/x")
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(("given", "debug"), [({}, True), ({"SECRET_KEY": "x"}, False)])
def test_a_secret_key_ends_debug_mode(load, given, debug):
    """Local play is in debug mode; a deployment gives a SECRET_KEY, and is not unless it says so."""
    assert load(**given)["DEBUG"] is debug


def test_without_debug_a_secret_key_is_needed(load):
    """The key that is public is not used outside of debug mode."""
    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY"):
        load(DEBUG="off")


def test_allowed_hosts_are_separated_by_commas(load):
    """ALLOWED_HOSTS is a list of names separated by commas."""
    assert load(ALLOWED_HOSTS="a.example, b.example")["ALLOWED_HOSTS"] == ["a.example", "b.example"]


def test_the_app_needs_django_and_pydantic_only():
    """Everything but Django and pydantic is an extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.match(r"[\w.-]+", each)[0] for each in project["dependencies"]}
    assert names == {"Django", "pydantic"}


def test_the_wheel_holds_the_app_and_nothing_else(tmp_path):
    """Templates, migrations and py.typed are in the wheel; examples and tests are not."""
    import zipfile

    from hatchling.builders.wheel import WheelBuilder

    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "outbox_inbox").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == files
    assert {"outbox_inbox/py.typed", "outbox_inbox/migrations/0001_initial.py"} <= names


def test_a_report_shows_no_password(monkeypatch):
    """A server's URL is shown without its password."""
    monkeypatch.setenv("TEST_REDIS_URL", "redis://me:secret@host:6379/15")
    assert services.REDIS.shown_url == "redis://me:***@host:6379/15"


def test_a_server_that_does_not_answer_is_named(monkeypatch):
    """The problem with a missing server says which, where, and which variable moves it."""
    monkeypatch.setenv("TEST_REDIS_URL", "redis://127.0.0.1:1/0")
    missing = services.Service(
        name="Redis", variable="TEST_REDIS_URL", default="", greet=services.REDIS.greet
    )
    assert missing.problem.startswith("Redis at redis://127.0.0.1:1/0 (TEST_REDIS_URL): ")


def test_each_process_of_a_test_run_has_its_own_redis_database(monkeypatch):
    """The first uses the database that is named, the others the next lower ones."""
    monkeypatch.setenv("TEST_REDIS_URL", "redis://:secret@host:1/2")
    urls = [services.redis_url(worker) for worker in ("gw0", "gw1", "gw2")]
    assert urls == [f"redis://:secret@host:1/{number}" for number in (2, 1, 0)]


def test_too_few_redis_databases_end_a_test_run(monkeypatch):
    """The error names the variable and the database to use."""
    monkeypatch.setenv("TEST_REDIS_URL", "redis://host:1/2")
    with pytest.raises(
        SystemExit, match=r"TEST_REDIS_URL names database 2.*name 3 or a higher one"
    ):
        services.redis_url("gw3")
