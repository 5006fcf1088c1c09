"""`prepare_context_database` refuses what is not a context's own process, or not its database."""

from uuid import uuid4

import pytest

from tests.support.moving_out import COMMAND, MovingOut, run


def refusal(moving: MovingOut, *options: str, **settings: str) -> str:
    """Run the command, which must be refused and change nothing; return what it says."""
    before = moving.state()
    done = moving.prepare(*options, **settings)
    assert (done.status, done.out, moving.state()) == (1, "", before)
    return done.err


# ------------------------------------------------------------------------------ the process


def test_an_unknown_context_is_wrong_usage(leaving):
    """The error names the one that is meant."""
    done = leaving.own(COMMAND, "biling")
    assert done.status == 2
    assert "There is no context 'biling'; did you mean 'billing'?" in done.err


def test_the_monolith_is_refused(leaving):
    """Its process has other contexts, which are named."""
    before = leaving.state()
    done = leaving.monolith(COMMAND, "billing")
    assert (done.status, leaving.state()) == (1, before)
    assert "this process also has sales, so it is not the process of billing alone" in done.err


def test_a_process_with_another_main_database_is_refused(leaving):
    """It has billing alone, but its routers keep users and sites away, as those of the monolith do."""
    before = leaving.state()
    done = leaving.monolith(COMMAND, "billing", CONTEXTS="billing")
    assert (done.status, leaving.state()) == (1, before)
    assert "keep the tables of accounts, auth," in done.err
    assert "away from the database 'apart'" in done.err


def test_contexts_on_several_databases_are_refused(leaving):
    """The own process of both has one database for everything."""
    done = leaving.monolith(COMMAND, "billing", "sales")
    assert done.status == 1
    assert "billing, sales have several databases in this process: apart, default" in done.err


# ------------------------------------------------------------------------------ the database


def test_a_new_database_is_refused(leaving):
    """Nothing is recorded there: it is the wrong one, or `migrate` is enough."""
    leaving.store.execute("DELETE FROM django_migrations")
    leaving.store.execute("DROP TABLE printing_page")
    leaving.store.execute("DROP TABLE billing_invoice")
    for table in sorted(leaving.tables()):
        if table.startswith("outbox_inbox_"):
            leaving.store.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    said = refusal(leaving)
    assert "no migration of billing, outbox_inbox is recorded in the database 'default'" in said
    assert "manage.py migrate is enough" in said


def test_a_database_without_the_tables_of_the_context_is_refused(leaving):
    """It is another one, such as the monolith's own, where billing's migrations made nothing."""
    leaving.store.execute("DROP TABLE printing_page")
    assert "lacks the tables printing_page of 'printing'" in refusal(leaving)


def test_a_database_with_the_queues_of_others_is_refused(leaving):
    """Another process works in it: it is the monolith's own."""
    leaving.store.execute("UPDATE outbox_inbox_partition SET context = 'sales' WHERE number = 0")
    assert "the database 'default' also has the queues of sales" in refusal(leaving)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("left", "was transferred, and the database 'default' is the one that it has left"),
        ("copying", "is being transferred to the database 'default'"),
    ],
)
def test_a_database_on_which_the_context_does_not_live_is_refused(leaving, state, said):
    """The context has left it, or is on its way to it."""
    transfer(leaving, "billing", state)
    assert said in refusal(leaving)


def test_the_queues_of_a_context_that_has_left_do_not_matter(leaving):
    """The monolith's own database may become that of the context which stays there."""
    leaving.store.execute("UPDATE outbox_inbox_partition SET context = 'sales' WHERE number = 0")
    transfer(leaving, "sales", "left")
    assert leaving.prepare().status == 0


def test_a_context_that_was_transferred_here_is_prepared(leaving):
    """The database is the new side, and open."""
    transfer(leaving, "billing", "open")
    assert leaving.prepare().status == 0


def transfer(moving: MovingOut, label: str, state: str) -> None:
    """Store how far a transfer is."""
    false = "false" if moving.store.url.startswith("postgres") else "0"
    moving.store.execute(
        "INSERT INTO outbox_inbox_transfer (context, number, state, other, writing, details, changed_at)"
        f" VALUES ('{label}', '{uuid4().hex}', '{state}', 'default', {false}, '{{}}',"
        " '2024-05-01 00:00:00')"
    )


# ------------------------------------------------------------------------------ what is unclear


def test_an_app_with_some_of_its_tables_is_refused(leaving):
    """It cannot be seen which migrations were applied; the tables are named, and those with rows."""
    leaving.store.execute("CREATE TABLE auth_group (id integer)")
    leaving.store.execute("INSERT INTO auth_group (id) VALUES (1)")
    said = refusal(leaving)
    assert "of the tables of 'auth', auth_group is in the database 'default'" in said
    assert "and auth_group holds rows" in said
    assert "auth_group_permissions, auth_permission is not" in said


def test_an_app_without_tables_is_not_guessed(leaving):
    """Some apps were migrated here and some were not: the operator says which it is."""
    leaving.store.execute("CREATE TABLE django_session (id integer)")
    said = refusal(leaving)
    assert "the migrations of seeds make no tables" in said
    assert "those of sessions were, and others were not" in said


@pytest.mark.parametrize(("option", "groups"), [("--keep", []), ("--forget", [("clerks",)])])
def test_an_operator_says_what_became_of_an_app_without_tables(leaving, option, groups):
    """`--keep` leaves its records, and `--forget` has its migrations applied."""
    leaving.store.execute("CREATE TABLE django_session (id integer)")
    done = leaving.prepare(option, "seeds")
    assert (done.status, done.err) == (0, "")
    assert leaving.store.query("SELECT name FROM auth_group") == groups


def test_the_records_of_an_app_can_be_kept(leaving):
    """Its tables stay missing, because the operator says so."""
    assert leaving.prepare("--keep", "flatpages").status == 0
    assert ("flatpages", "0001_initial") in leaving.recorded()
    assert "django_flatpage" not in leaving.tables()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--keep", "flatpage"), "no migration of an app 'flatpage' is recorded"),
        (("--forget", "billing"), "'billing' belongs to the contexts"),
        (("--forget", "seeds", "--keep", "seeds"), "'seeds' is to be kept and to be forgotten"),
    ],
)
def test_a_wrong_option_is_refused(leaving, options, said):
    """The error says what is wrong with it."""
    assert said in refusal(leaving, *options)


def test_an_app_whose_tables_are_there_is_not_forgotten(leaving):
    """Its migrations would fail."""
    leaving.store.execute("CREATE TABLE django_session (id integer)")
    said = refusal(leaving, "--keep", "seeds", "--forget", "sessions")
    assert "the tables django_session of 'sessions' are in the database" in said


# ------------------------------------------------------------------------------ the old way


def test_the_fake_lines_of_old_die(leaving):
    """They forget the migrations of billing as well, and `migrate` makes its tables a second time."""
    leaving.own("migrate", "--fake", "contenttypes", "zero")
    assert ("billing", "0001_initial") not in leaving.recorded()
    assert leaving.own("migrate").status == 1


def test_a_database_after_the_fake_lines_can_be_saved(leaving):
    """The refusal says how the monolith records its migrations again; then the command does the rest."""
    leaving.own("migrate", "--fake", "contenttypes", "zero")
    said = refusal(leaving)
    assert "has the tables billing_invoice, but no migration of 'billing' is recorded" in said
    assert "manage.py migrate --fake --database ALIAS" in said
    assert leaving.monolith("migrate", "--fake", "--database", "apart").status == 0
    assert leaving.prepare().status == 0
    assert leaving.store.query("SELECT number, author_id FROM billing_invoice") == [("1", 7)]
    assert run("migrate", "--check", CONTEXTS="billing", DATABASE_URL=leaving.store.url).status == 0
