"""`prepare_context_database` refuses what is not a context's own process, or not its database."""

from collections.abc import Iterator

import pytest

from tests.support.moving_out import COMMAND, MovingOut, databases_of_billing


@pytest.fixture(scope="module")
def make(tmp_path_factory) -> Iterator:
    """Return a function that makes a database of billing as the monolith has left it."""
    with databases_of_billing(tmp_path_factory.mktemp("billing")) as made:
        yield made


@pytest.fixture
def left(make) -> MovingOut:
    """A database of billing as the monolith has left it."""
    return make()


def refuses(left, done, *parts, status=1):
    """Assert that a command was refused with a sentence, which has these parts."""
    assert (done.status, done.out) == (status, "")
    assert [part for part in parts if part not in " ".join(done.err.split())] == [], done.err
    assert "Traceback" not in done.err


# ------------------------------------------------------------------------------------- the process


def test_an_unknown_context_is_refused(left):
    """The error names those that there are."""
    refuses(left, left.own(COMMAND, "biling"), "'biling'", "billing", status=2)


def test_the_monolith_is_refused(left):
    """It has other contexts: forgotten records would let its next migrate fail."""
    before = left.state()
    done = left.monolith(COMMAND, "billing")
    refuses(left, done, "this process also has sales", "with the settings of the contexts' own")
    assert left.state() == before


def test_a_process_that_keeps_other_apps_elsewhere_is_refused(left):
    """It has one context, and two databases all the same."""
    done = left.monolith(COMMAND, "billing", CONTEXTS="billing")
    refuses(left, done, "the database routers of this process", "away from the database 'apart'")


def test_contexts_with_several_databases_are_refused(left):
    """One process of two contexts has one database for both."""
    done = left.monolith(COMMAND, "billing", "sales")
    refuses(left, done, "have several databases in this process: apart, default")


# ------------------------------------------------------------------------------------ the database


def test_a_database_without_the_contexts_tables_is_refused(left, make):
    """Another database than that of the context, such as one that is new."""
    done = left.own(COMMAND, "billing", DATABASE_URL="sqlite://:memory:")
    refuses(left, done, "it is not the database of billing", "manage.py migrate is enough")


def test_a_database_with_the_queues_of_others_is_refused(left):
    """It is that of the monolith, which works in it."""
    left.store.execute(
        "INSERT INTO outbox_inbox_partition (context, queue, number, paused, outages, error)"
        " VALUES ('sales', 'outbox', 0, FALSE, 0, '')"
    )
    before = left.state()
    refuses(left, left.prepare(), "'default' also has the queues of sales")
    assert left.state() == before


def test_a_database_without_the_contexts_records_is_refused(left):
    """As after `migrate --fake billing zero`: its tables are there, and would be made again."""
    left.store.execute("DELETE FROM django_migrations WHERE app = 'billing'")
    refuses(left, left.prepare(), "has the tables billing_invoice", "no migration of 'billing'")


def test_a_database_that_lacks_a_table_of_the_context_is_refused(left):
    """Its records are those of the context, and its tables are not."""
    left.store.execute("DROP TABLE printing_page")
    refuses(left, left.prepare(), "lacks the tables printing_page of 'printing'")


# ------------------------------------------------------------------------- what cannot be decided


def test_an_app_with_some_of_its_tables_is_refused(left):
    """The error names what is there and what is not; an operator may keep the app as it is."""
    left.store.execute("CREATE TABLE auth_group (id integer PRIMARY KEY)")
    left.store.execute("INSERT INTO auth_group (id) VALUES (1)")
    before = left.state()
    done = left.prepare()
    refuses(left, done, "of the tables of 'auth', auth_group is in", "auth_group holds rows")
    refuses(left, done, "auth_permission", "--keep auth")
    assert left.state() == before


def test_an_app_without_tables_is_asked_about_where_others_were_applied(left):
    """Whether its migrations were applied cannot be seen; an operator says it."""
    left.store.execute("CREATE TABLE django_session (session_key varchar(40) PRIMARY KEY)")
    done = left.prepare()
    refuses(left, done, "the migrations of seeds make no tables", "--keep APP", "--forget APP")
    assert left.prepare("--forget", "seeds").status == 0
    assert left.store.query("SELECT name FROM auth_group") == [("clerks",)]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--keep", "sesions"], "no migration of an app 'sesions' is recorded"),
        (["--keep", "sites", "--forget", "sites"], "is to be kept and to be forgotten"),
        (["--forget", "billing"], "'billing' belongs to the contexts: its tables are in use"),
        (["--forget", "outbox_inbox"], "its tables are in use"),
    ],
)
def test_a_wrong_option_is_refused(left, options, reason):
    """Nothing is forgotten by a slip."""
    before = left.state()
    refuses(left, left.prepare(*options), reason)
    assert left.state() == before


def test_an_app_with_tables_is_not_forgotten(left):
    """Its migrations would fail at the first table."""
    left.store.execute("CREATE TABLE django_session (session_key varchar(40) PRIMARY KEY)")
    done = left.prepare("--forget", "sessions")
    refuses(left, done, "the tables django_session of 'sessions' are in the database 'default'")
