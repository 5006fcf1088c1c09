"""Debuggers and tracers see the statements of record() and of the movers, wherever they look."""

from contextlib import contextmanager

import pytest
from django.db import connections

from outbox_inbox.models import OutboxMessage
from tests.shop.events import Noted
from tests.support.movers import dispatch, put, relay, steps

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture
def connection():
    """Django's own object: what is set on it must not stay, not even as it was before."""
    found = connections["default"]
    found.ensure_connection()
    return found


class Watcher:
    """A cursor in front of another, which notes what is executed."""

    def __init__(self, cursor, seen):
        self._cursor, self._seen = cursor, seen

    def execute(self, sql, *arguments, **options):
        self._seen.append(sql)
        return self._cursor.execute(sql, *arguments, **options)

    def __getattr__(self, name):
        return getattr(self._cursor, name)

    def __enter__(self):
        self._cursor.__enter__()
        return self

    def __exit__(self, *error):
        return self._cursor.__exit__(*error)


def watched(method, seen):
    """Return a method that makes cursors, with a watcher before each."""
    return lambda *arguments, **options: Watcher(method(*arguments, **options), seen)


@contextmanager
def of_the_connection(connection, monkeypatch, seen):
    """The debug toolbar's way: a cursor() of this very connection."""
    monkeypatch.setitem(vars(connection), "cursor", watched(connection.cursor, seen))
    yield


@contextmanager
def of_the_making(connection, monkeypatch, seen):
    """Whatever wraps cursors where Django does."""
    for name in ("make_cursor", "make_debug_cursor"):
        monkeypatch.setitem(vars(connection), name, watched(getattr(connection, name), seen))
    yield


@contextmanager
def of_the_class(connection, monkeypatch, seen):
    """An engine with metrics: its class makes cursors of its own."""
    kind = type(connection)
    monkeypatch.setattr(kind, "create_cursor", watched(kind.create_cursor, seen))
    yield


@contextmanager
def of_the_wrappers(connection, monkeypatch, seen):
    """Django's own way to see statements."""

    def note(execute, sql, parameters, many, context):
        seen.append(sql)
        return execute(sql, parameters, many, context)

    with connection.execute_wrapper(note):
        yield


@contextmanager
def of_the_debugger(connection, monkeypatch, seen):
    """Tests that count queries: they keep a log of queries."""
    monkeypatch.setattr(connection, "force_debug_cursor", True)
    before = len(connection.queries_log)
    yield
    seen += [each["sql"] for each in list(connection.queries_log)[before:]]


WAYS = [of_the_connection, of_the_making, of_the_class, of_the_wrappers, of_the_debugger]


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("way", WAYS)
def test_what_is_recorded_is_seen(connection, monkeypatch, way, count):
    """The INSERT goes where the project looks, for one event and for many."""
    seen = []
    with way(connection, monkeypatch, seen):
        recorded = put(*steps(Noted, count))
    assert any("INSERT" in sql and "outboxmessage" in sql for sql in seen)
    stored = OutboxMessage.objects.order_by("id").values_list("message_id", "recorded_at")
    assert [(each.id, each.time) for each in recorded] == list(stored)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_claimed_is_seen(connection, monkeypatch, way):
    """The UPDATE by which a worker takes a delivery goes there, too."""
    put(*steps(Noted, 1))
    relay()
    seen = []
    with way(connection, monkeypatch, seen):
        assert dispatch().done == 2
    assert any("UPDATE" in sql and "delivery" in sql for sql in seen)


@pytest.mark.postgres
@pytest.mark.parametrize("count", [1, 20])
def test_a_class_of_cursors_that_the_driver_was_given_is_used(connection, monkeypatch, count):
    """Tracers of psycopg give it one; the same is the option `cursor_factory`."""
    seen = []

    class Traced(connection.connection.cursor_factory):
        def execute(self, query, *arguments, **options):
            seen.append(query)
            return super().execute(query, *arguments, **options)

    monkeypatch.setattr(connection.connection, "cursor_factory", Traced)
    put(*steps(Noted, count))
    assert any("INSERT" in sql and "outboxmessage" in sql for sql in seen)


class Proxy:
    """A driver's connection within another object, as some agents have it."""

    def __init__(self, driver, seen):
        vars(self).update(driver=driver, seen=seen)

    def __getattr__(self, name):
        return getattr(self.driver, name)

    def __setattr__(self, name, value):
        setattr(self.driver, name, value)

    def cursor(self, *arguments, **options):
        """Return a cursor that is watched."""
        return Watcher(self.driver.cursor(*arguments, **options), self.seen)


@pytest.mark.postgres
@pytest.mark.parametrize("count", [1, 20])
def test_a_connection_within_another_object_is_used(connection, monkeypatch, count):
    """Its cursors are made by that object."""
    seen = []
    monkeypatch.setattr(connection, "connection", Proxy(connection.connection, seen))
    put(*steps(Noted, count))
    assert any("INSERT" in sql and "outboxmessage" in sql for sql in seen)
