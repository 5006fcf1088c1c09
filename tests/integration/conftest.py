"""Databases for tests that really commit, from several connections and threads; and brokers."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.db import connections, transaction
from django.db.models import Q, QuerySet
from django.test import Client
from django.test.utils import setup_databases, teardown_databases
from pytest_django import DjangoDbBlocker

from outbox_inbox import IntegrationEvent, signals
from outbox_inbox.contexts import contexts
from outbox_inbox.models import (
    Checkpoint,
    Delivery,
    DeliveryAttempt,
    InboxMessage,
    Interest,
    OperatorAction,
    OutboxMessage,
    Partition,
    ProcessState,
    QuarantinedMessage,
    Queue,
    QueueLayout,
    Snapshot,
    StoredEvent,
    Transfer,
    table,
)
from outbox_inbox.operations.transfer.guards import remove_guards
from outbox_inbox.operations.transfer.sequences import set_last_id
from outbox_inbox.operations.transfer.tables import QUEUE_MODELS
from outbox_inbox.queues.interests import store_interests
from outbox_inbox.queues.partitions import ensure_partitions
from outbox_inbox.transports import transport
from tests import services
from tests.board.models import Fan, HighScore, Member, Pass, Ranking, Sheet, Team
from tests.conftest import need
from tests.depot.models import Pick
from tests.shop.models import Entry, Remark
from tests.support.crowd import crowd
from tests.support.moving_out import MovingOut, databases_of_billing
from tests.support.relaying import Log
from tests.support.wire import WIRE, confirmed

Made = dict[str, list[Partition]]

_interests: dict[str, list[Interest]] = {}
"""By alias, as migrate has made them."""

WRITTEN = (
    OperatorAction,
    DeliveryAttempt,
    Delivery,
    InboxMessage,
    QuarantinedMessage,
    OutboxMessage,
    Snapshot,
    StoredEvent,
    Checkpoint,
    ProcessState,
    Remark,
    Entry,
    Pick,
)


@pytest.fixture(scope="session")
def both_databases(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Made]:
    """The test databases of all aliases; their partitions, as migrate has made them."""
    with django_db_blocker.unblock():
        # pytest-django makes those that its own mark names on a test of this run.
        missing = [each.alias for each in connections.all() if not _is_made(each.settings_dict)]
        made = setup_databases(verbosity=0, interactive=False, aliases=missing)
        for alias in connections:
            _hurry(alias)
        partitions = {alias: list(Partition.objects.using(alias)) for alias in connections}
        for alias in connections:
            QueueLayout.objects.using(alias).all().delete()
        _interests.update({alias: list(_interest_rows(alias)) for alias in connections})
    yield partitions
    with django_db_blocker.unblock():
        for alias in connections:
            _end_others(alias)
        teardown_databases(made, verbosity=0)


def _end_others(alias: str) -> None:
    """End the connections of threads and processes that have not ended yet: they keep the database."""
    connection = connections[alias]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


def _is_made(settings: dict) -> bool:
    return settings["NAME"] == settings["TEST"]["NAME"]


def _hurry(alias: str) -> None:
    """Let commits be answered before they are on disk: no test here cuts the power."""
    connection = connections[alias]
    if connection.vendor == "postgresql":
        name = connection.ops.quote_name(connection.settings_dict["NAME"])
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {name} SET synchronous_commit TO off")
        connection.close()


@pytest.fixture
def committed(both_databases: Made, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Both databases, with transactions that are really committed; emptied after the test.

    Deleting from small tables takes a hundredth of the time that Django's flush does.
    """
    with django_db_blocker.unblock():
        yield
        for alias, partitions in both_databases.items():
            empty(alias, partitions)


@pytest.fixture
def staff(db: None) -> Callable[..., Client]:
    """Return a function that logs in a staff member who may view, and what else is named."""

    def log_in(*codenames: str, **options: bool) -> Client:
        user = User.objects.create_user("olga", is_staff=True)
        views = Q(content_type__app_label="outbox_inbox", codename__startswith="view_")
        named = Q(codename__in=codenames)
        user.user_permissions.set(Permission.objects.filter(views | named))
        client = Client(**options)
        client.force_login(user)
        return client

    return log_in


class SoldAgain(IntegrationEvent, name="shop.sold", version=2, key="order"):
    """The contract as it will be after the next deployment."""

    order: str
    number: int


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """The depot as it is after the deployment: it reads version 2 of a message from the shop."""
    monkeypatch.setattr(apps.get_app_config("depot"), "subscribes", (SoldAgain,))
    settings.OUTBOX_INBOX = {}


@pytest.fixture
def board_context(settings: Any) -> None:
    """The context "board" with its read models."""
    settings.INSTALLED_APPS = [
        "tests.board.apps.BoardConfig" if name == "tests.board.apps.Tables" else name
        for name in settings.INSTALLED_APPS
    ]


@pytest.fixture
def boarded(committed: None, board_context: None) -> Iterator[None]:
    """The context "board", whose read models are emptied after the test."""
    ensure_partitions("default")
    store_interests("default")
    yield
    for model in (Fan, Pass, HighScore, Ranking, Member, Team, Sheet):
        model.objects.all().delete()


@pytest.fixture
def yarded(committed: None, settings: Any) -> None:
    """The context "yard" with its process."""
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "tests.yard.apps.YardConfig"]
    ensure_partitions("default")
    store_interests("default")


@pytest.fixture
def border(committed: None, settings: Any) -> None:
    """The contexts "farm" and "market"."""
    apps = ("tests.farm.apps.FarmConfig", "tests.market.apps.MarketConfig")
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, *apps]
    ensure_partitions("default")
    store_interests("default")


@pytest.fixture
def redis_url():
    """The URL of a Redis that answers; not emptied, since each test has streams of its own."""
    return need(services.REDIS)


@pytest.fixture
def redis(redis_url):
    """A redis of the test's own."""
    from redis import Redis

    with Redis.from_url(redis_url, protocol=2) as found:
        yield found


@pytest.fixture
def redis_prefix(redis):
    """The beginning of the names of this test's streams; they are deleted after it."""
    found = f"test-{uuid4().hex}"
    yield found
    for name in redis.scan_iter(f"{found}*"):
        redis.delete(name)


@pytest.fixture
def stream(redis_prefix):
    """The name of the shop's stream."""
    return f"{redis_prefix}:shop"


@pytest.fixture
def configure_redis(settings, redis_url, redis_prefix):
    """Let the contexts talk through Redis, and return the transport."""

    def configured(location=redis_url, *, options=None, **changed):
        entry = {"LOCATION": location, "OPTIONS": {"PREFIX": redis_prefix, **(options or {})}}
        settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": entry}, **changed}
        return transport("default")

    return configured


@pytest.fixture
def bus(configure_redis):
    """The transport, as it is without options."""
    return configure_redis()


@pytest.fixture
def lost():
    """What was announced as lost during a test."""
    found = []

    def note(sender, place, error, **_):
        found.append(f"{place}: {error}")

    signals.message_lost.connect(note)
    yield found
    signals.message_lost.disconnect(note)


@pytest.fixture
def broker(amqp_url):
    """The RabbitMQ, with exchanges and queues of this test only."""
    from tests.support.rabbit import Broker  # needs kombu

    with Broker(amqp_url) as made:
        yield made


@pytest.fixture
def rabbit(broker, settings):
    """The shop and the depot talk through RabbitMQ."""
    settings.OUTBOX_INBOX = broker.setting()
    yield broker
    QuarantinedMessage.objects.all().delete()


@pytest.fixture
def one(settings: Any) -> None:
    """One partition of the inbox, so that all deliveries are read ahead together."""
    settings.OUTBOX_INBOX = {"PARTITIONS": {"inbox": 1}}
    Partition.objects.filter(queue=Queue.INBOX, number__gt=0).delete()
    QueueLayout.objects.update(inbox=1)


@pytest.fixture
def log(settings: Any) -> Log:
    """What the wire has confirmed, as (key, number)."""
    settings.OUTBOX_INBOX = WIRE
    confirmed.clear()
    return Log()


@pytest.fixture
def unguarded(committed: None) -> Iterator[None]:
    """Both databases as new, and as they were: no transfer has left a trace."""
    for alias in connections:
        for model in (*QUEUE_MODELS, Entry, Remark, Pick):
            set_last_id(connections[alias], model, 0)
    yield
    for alias in connections:
        for context in contexts():
            remove_guards(connections[alias], context.label)
        Transfer.objects.using(alias).all().delete()


def _interest_rows(alias: str) -> QuerySet[Interest]:
    return Interest.objects.using(alias).order_by("id")


def _forget_interests(alias: str) -> None:
    """Take back what the code of a test has stored: its consumers would get the next test's messages."""
    before = [(row.pk, row.schema_version, row.retired_at) for row in _interests[alias]]
    columns = ("pk", "schema_version", "retired_at")
    if list(_interest_rows(alias).values_list(*columns)) != before:
        _interest_rows(alias).delete()
        Interest.objects.using(alias).bulk_create(_interests[alias])


def empty(alias: str, partitions: list[Partition]) -> None:
    """Empty the tables that the tests write to, and restore the partitions."""
    if connections[alias].vendor == "mysql" and StoredEvent.objects.using(alias).exists():
        # InnoDB keeps deleted rows for a while, and locks them for transactions that want their versions.
        with connections[alias].cursor() as cursor:
            cursor.execute(f"TRUNCATE {table(StoredEvent)}")
    installed = [each.label for each in contexts()]
    with transaction.atomic(using=alias):
        # A context that only this test had would get deliveries in the next one.
        Interest.objects.using(alias).exclude(context__in=installed).delete()
        with connections[alias].cursor() as cursor:
            # A test's settings are in force as soon as it needs them, as in a project without rows.
            for model in (*WRITTEN, Partition, QueueLayout):
                cursor.execute(f"DELETE FROM {table(model)}")
        Partition.objects.using(alias).bulk_create(partitions)
        _forget_interests(alias)


@pytest.fixture(scope="module")
def crowded(
    request: pytest.FixtureRequest, both_databases: Made, django_db_blocker: DjangoDbBlocker
) -> Iterator[None]:
    """Fill the tables in a shape, the parameter of a test; see `crowd`."""
    with django_db_blocker.unblock(), crowd(getattr(request, "param", "finished")):
        yield


@pytest.fixture(scope="session")
def leave_billing(tmp_path_factory) -> Iterator[Callable[[], MovingOut]]:
    """Return a function that makes a database of billing as its monolith has left it."""
    with databases_of_billing(tmp_path_factory.mktemp("billing")) as made:
        yield made


@pytest.fixture
def leaving(leave_billing) -> MovingOut:
    """A database of billing as its monolith has left it."""
    return leave_billing()
