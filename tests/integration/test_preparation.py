"""`prepare_context_database`: billing moves out of `tests.split` into a process of its own."""

import json

import pytest

from tests.support.moving_out import MovingOut

OTHERS = {
    "accounts_user",
    "auth_group",
    "django_content_type",
    "django_flatpage",
    "django_session",
    "django_site",
    "tags_tag",
}


@pytest.fixture(scope="module")
def prepared(leave_billing) -> MovingOut:
    """A database that was prepared; the tests only read it."""
    moving = leave_billing()
    done = moving.prepare()
    assert (done.status, done.err) == (0, "")
    return moving


def test_the_monolith_leaves_records_without_tables(leaving):
    """That is what the command is for: nothing of others is there, and everything is recorded."""
    recorded = {app for app, _ in leaving.recorded()}
    assert recorded >= {
        "accounts",
        "auth",
        "flatpages",
        "sales",
        "seeds",
        "sessions",
        "sites",
        "tags",
    }
    assert not OTHERS & leaving.tables()


# ------------------------------------------------------------------------------ what is prepared


def test_every_app_has_its_tables(prepared):
    """Also a custom user on whose migration one of billing depends, and an app of a third party."""
    assert prepared.tables() >= OTHERS


def test_the_history_is_consistent_afterwards(prepared):
    """`migrate` finds nothing to apply, and nothing to complain about."""
    done = prepared.own("migrate", "--check")
    assert (done.status, done.err) == (0, "")


def test_migrations_of_data_are_applied(prepared):
    """An app's first rows are there, also those of an app whose migrations make no tables."""
    assert prepared.store.query("SELECT word FROM tags_tag") == [("urgent",)]
    assert prepared.store.query("SELECT name FROM auth_group") == [("clerks",)]


def test_apps_make_what_their_migrations_need(prepared):
    """`pre_migrate` is sent before the first migration is applied."""
    assert prepared.store.query("SELECT page FROM tags_help") == [(1,)]


def test_apps_make_their_first_rows(prepared):
    """`post_migrate` is sent: the default site, and the permissions of billing's models."""
    assert prepared.store.query("SELECT domain FROM django_site") == [("example.com",)]
    codenames = prepared.store.query("SELECT codename FROM auth_permission")
    assert {("add_invoice",), ("add_page",)} <= set(codenames)


def test_the_rows_of_the_context_stay(prepared):
    """Nothing of billing is touched."""
    assert prepared.store.query("SELECT number, author_id FROM billing_invoice") == [("1", 7)]


def test_the_records_of_apps_that_are_not_installed_are_forgotten(prepared):
    """Otherwise such an app would have no table on the day on which it is installed."""
    assert "sales" not in {app for app, _ in prepared.recorded()}


def test_an_app_that_is_installed_later_gets_its_table(leaving):
    """Its record from the monolith's time does not hide it."""
    leaving.prepare(ABSENT_APPS="tags")
    assert "tags_tag" not in leaving.tables()
    assert leaving.own("migrate").status == 0
    assert "tags_tag" in leaving.tables()


def test_a_second_call_has_nothing_to_do(prepared):
    """It says so, and changes nothing."""
    before = prepared.state()
    done = prepared.prepare()
    assert done.out == "Nothing to prepare: the database 'default' is complete for billing.\n"
    assert prepared.state() == before


def test_the_checks_find_nothing_in_a_prepared_database(prepared):
    """The process can start."""
    done = prepared.own("check", "--database", "default", "--fail-level", "WARNING")
    assert (done.status, done.err) == (0, "")


# ------------------------------------------------------------------------------ what is printed


def test_a_dry_run_names_what_would_be_done(leaving):
    """It names each app with what is missing, and changes nothing."""
    before = leaving.state()
    done = leaving.prepare("--dry-run")
    assert "sessions: 1 recorded migration would be forgotten; without django_session." in done.out
    assert "sales: 1 recorded migration would be forgotten; not installed here." in done.out
    assert "seeds: 1 recorded migration would be forgotten; without tables." in done.out
    assert "22 migrations would be applied in the database 'default'." in done.out
    assert leaving.state() == before


def test_json_is_all_that_is_printed(leaving):
    """A program reads which records were forgotten, and what was applied, in its order."""
    found = json.loads(leaving.prepare("--format", "json").out)
    assert (found["contexts"], found["database"], found["dry_run"]) == (
        ["billing"],
        "default",
        False,
    )
    assert [each["label"] for each in found["forgotten"]] == [
        "accounts", "auth", "contenttypes", "flatpages", "sales", "seeds", "sessions", "sites", "tags",
    ]  # fmt: skip
    applied = found["applied"]
    assert applied.index("sites.0001_initial") < applied.index("flatpages.0001_initial")


# ------------------------------------------------------------------------------ what fails


def fails_and_continues(leaving: MovingOut, **settings: str) -> None:
    """A migration fails, what was applied before it stays, and a second call does the rest."""
    done = leaving.prepare(TAGS_FAIL="1", **settings)
    assert done.status == 1
    assert (
        "the migration tags.0002_colour failed (ValueError): the database has no room" in done.err
    )
    assert "What was applied before it stays." in done.err
    assert ("auth", "0001_initial") in leaving.recorded()
    assert leaving.prepare(**settings).status == 0
    assert leaving.own("migrate", "--check").status == 0
    assert leaving.tables() >= OTHERS


@pytest.mark.sqlite
@pytest.mark.postgres
def test_a_migration_that_fails_undoes_everything(leaving):
    """The live database of the context is as it was; the error names the migration and its reason."""
    before = leaving.state()
    done = leaving.prepare(TAGS_FAIL="1")
    assert (done.status, done.out) == (1, "")
    assert (
        "the migration tags.0002_colour failed (ValueError): the database has no room" in done.err
    )
    assert "Nothing was changed." in done.err
    assert leaving.state() == before


@pytest.mark.sqlite
@pytest.mark.postgres
def test_a_migration_that_is_not_atomic_cannot_be_undone(leaving):
    """Then nothing is one transaction; a second call continues where the first one failed."""
    fails_and_continues(leaving, TAGS_NOT_ATOMIC="1")


@pytest.mark.mariadb
@pytest.mark.mysql
def test_where_tables_cannot_be_undone_a_second_call_continues(leaving):
    """MariaDB and MySQL commit each table."""
    fails_and_continues(leaving)
