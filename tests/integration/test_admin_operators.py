"""Two operators who change the same rows at the same moment."""

import threading

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from outbox_inbox.models import Delivery, OutboxMessage, Partition, QuarantinedMessage
from tests.support import rows
from tests.support.pages import address

pytestmark = pytest.mark.usefixtures("committed")

NAMES = ("anna", "bert")
MANY = 120


@pytest.fixture
def operators(committed):
    """Two of them, each with a browser."""
    users = {name: User.objects.create_superuser(name) for name in NAMES}
    clients = {name: Client() for name in NAMES}
    for name, user in users.items():
        clients[name].force_login(user)
    yield clients
    LogEntry.objects.all().delete()
    for user in users.values():
        user.delete()


def together(clients, model, **data):
    """Have both operators take an action on all rows of a table at once."""
    keys = list(model.objects.values_list("pk", flat=True))
    start = threading.Barrier(len(clients))
    codes = []

    def post(name):
        own = {each: str(value).format(name) for each, value in data.items()}
        start.wait()
        place = address(str(model._meta.model_name))
        try:
            codes.append(clients[name].post(place, {"_selected_action": keys, **own}).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=post, args=(name,)) for name in clients]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert codes == [302, 302]


def recorded(model):
    """Return the operators in the history of each row."""
    found = {str(key): [] for key in model.objects.values_list("pk", flat=True)}
    entries = LogEntry.objects.filter(content_type__model=model._meta.model_name)
    for key, name in entries.values_list("object_id", "user__username"):
        found[key].append(name)
    return found


DEAD = {
    OutboxMessage: lambda number: rows.dead_message(key=f"k{number}"),
    Delivery: lambda number: rows.delivery(
        rows.inbox_message(key=f"k{number}"), state="dead", attempts=1, holds=True, error="no"
    ),
    QuarantinedMessage: lambda number: rows.quarantined(),
}


@pytest.mark.parametrize("model", DEAD, ids=lambda each: each.__name__)
def test_the_history_names_the_operator_that_discarded_a_message(operators, model):
    """The reason that is stored with it, before its error, is that of the operator in its history."""
    for number in range(MANY):
        DEAD[model](number)
    together(operators, model, action="discard", reason="reason of {}", total=MANY)
    stored = dict(
        model.objects.values_list("pk", "note" if model is QuarantinedMessage else "error")
    )
    assert recorded(model) == {
        str(key): [text.partition("\n")[0].removeprefix("reason of ")]
        for key, text in stored.items()
    }


@pytest.mark.parametrize("model", [OutboxMessage, Delivery], ids=lambda each: each.__name__)
def test_the_history_has_one_operator_for_each_retried_message(operators, model):
    """The other one finds it retried already."""
    for number in range(MANY):
        DEAD[model](number)
    together(operators, model, action="retry")
    assert {len(names) for names in recorded(model).values()} == {1}


def test_the_history_has_one_operator_for_each_paused_partition(operators):
    """The other one finds it paused already."""
    together(operators, Partition, action="pause")
    assert {len(names) for names in recorded(Partition).values()} == {1}
