"""``@retry_on_conflict``: who tries again, how often, and who does not."""

from datetime import timedelta

import pytest
from django.db import DatabaseError, OperationalError, connection, transaction

from outbox_inbox import ConcurrencyError
from outbox_inbox.aggregates import conflicts, retry_on_conflict
from outbox_inbox.conf import Backoff


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """The pauses that would be made, in seconds."""
    made = []
    monkeypatch.setattr(conflicts, "_pause", made.append)
    return made


def losing(times, error=ConcurrencyError):
    """Return a function that is overtaken so many times, and counts its calls."""

    def decide(answer="done", *, by="me"):
        """Decide."""
        decide.calls += 1
        if decide.calls <= times:
            raise error("overtaken")
        return answer, by

    decide.calls = 0
    return decide


def test_a_call_that_is_overtaken_is_made_again():
    """With its arguments, and its result comes back."""
    decide = losing(2)
    assert retry_on_conflict(decide)("yes", by="you") == ("yes", "you")
    assert decide.calls == 3


def test_a_call_that_succeeds_is_made_once(pauses):
    """And without a pause."""
    decide = losing(0)
    retry_on_conflict(decide)()
    assert (decide.calls, pauses) == (1, [])


@pytest.mark.parametrize(("options", "tries"), [({}, 5), ({"attempts": 2}, 2)])
def test_the_last_try_raises_its_error(options, tries):
    """Five tries, or as many as the decorator says; the error says how many there were."""
    decide = losing(9)
    with pytest.raises(ConcurrencyError, match="overtaken") as told:
        retry_on_conflict(**options)(decide)()
    assert decide.calls == tries
    assert f"was tried {tries} times" in told.value.__notes__[0]


def test_the_pauses_grow_up_to_their_maximum(pauses):
    """They are those of the back-off that was given."""
    backoff = Backoff(
        first=timedelta(seconds=1), factor=3, maximum=timedelta(seconds=5), jitter=0.0
    )
    retry_on_conflict(attempts=4, backoff=backoff)(losing(3))()
    assert pauses == [1, 3, 5]


def test_a_pause_is_short_and_never_the_same(pauses):
    """Two who met must not meet again: chance takes up to half of it."""
    for _ in range(20):
        retry_on_conflict(losing(1))()
    assert all(0.005 <= each <= 0.010 for each in pauses)
    assert len(set(pauses)) > 1


@pytest.mark.parametrize("error", [ValueError, DatabaseError, OperationalError])
def test_another_error_is_not_tried_again(error):
    """Only what deciding anew can mend."""
    decide = losing(1, error)
    with pytest.raises(error):
        retry_on_conflict(decide)()
    assert decide.calls == 1


@pytest.mark.django_db(transaction=True)
def test_a_deadlock_is_tried_again(monkeypatch):
    """Where a database ends one transaction so that another can go on."""
    connection.ensure_connection()
    monkeypatch.setattr(connection, "vendor", "mysql")

    def deadlock(message):
        return OperationalError(1213, message)

    decide = losing(1, deadlock)
    assert retry_on_conflict(decide)() == ("done", "me")


def test_the_function_keeps_its_name_and_its_docstring():
    """It can be documented and imported like any other."""
    decide = retry_on_conflict(losing(0))
    assert (decide.__name__, decide.__doc__) == ("decide", "Decide.")


@pytest.mark.parametrize("attempts", [0, -1, 1001, True, 2.0, "5", None])
def test_an_impossible_number_of_tries_is_refused(attempts):
    """The error says what is expected."""
    with pytest.raises(ValueError, match="attempts is a whole number from 1 to 1000"):
        retry_on_conflict(attempts=attempts)


def test_what_works_later_is_refused():
    """A coroutine and a generator would raise where nothing tries again."""

    async def coroutine():
        pass

    def generator():
        yield

    for function in (coroutine, generator):
        with pytest.raises(TypeError, match="its work is done after the call"):
            retry_on_conflict(function)


def test_only_a_function_can_be_decorated():
    """The error of ``@retry_on_conflict(3)`` comes at once."""
    with pytest.raises(TypeError, match="is for functions, not for 3"):
        retry_on_conflict(3)


@pytest.mark.django_db
def test_within_a_transaction_it_is_called_once_and_the_error_says_why(pauses):
    """What was read there is old, and stays so until the transaction ends."""
    decide = losing(1)
    with transaction.atomic(), pytest.raises(ConcurrencyError) as told:
        retry_on_conflict(decide)()
    assert (decide.calls, pauses) == (1, [])
    assert "the code that opened the transaction has to begin it again" in told.value.__notes__[0]


@pytest.mark.django_db(transaction=True)
def test_above_atomic_each_try_is_a_transaction_of_its_own():
    """What a try did before it was overtaken is rolled back."""
    seen = []

    @retry_on_conflict
    @transaction.atomic
    def decide():
        transaction.on_commit(lambda: seen.append("committed"))
        seen.append(len(connection.savepoint_ids))
        if len(seen) < 3:
            raise ConcurrencyError

    decide()
    assert seen == [0, 0, 0, "committed"]


@pytest.mark.django_db(transaction=True)
def test_below_atomic_it_is_called_once():
    """The wrong order of the decorators costs the tries, and the error says so."""
    decide = losing(1)
    with pytest.raises(ConcurrencyError) as told:
        transaction.atomic(retry_on_conflict(decide))()
    assert decide.calls == 1
    assert "above the outermost @transaction.atomic" in told.value.__notes__[0]


@pytest.mark.django_db(transaction=True)
def test_without_autocommit_it_is_called_once():
    """A transaction is open there from the first statement on."""
    decide = losing(1)
    transaction.set_autocommit(False)
    try:
        with pytest.raises(ConcurrencyError):
            retry_on_conflict(decide)()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert decide.calls == 1
