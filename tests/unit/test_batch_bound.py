"""How much a batch may carry: little enough for a slow link, less after a time-out, then more again."""

import pytest

from outbox_inbox.transports.batch_bound import BatchBound


@pytest.fixture
def bound():
    """The bound of a process with the default settings: 5 s, 500 rows."""
    return BatchBound(5)


def test_a_batch_passes_a_link_of_10_mbit_in_half_of_the_time_out(bound):
    """That is 1.25 MB a second."""
    assert bound.max_bytes == 2.5 * 1_250_000


def test_a_long_time_out_does_not_fill_the_memory():
    """An hour is what PUBLISH_TIMEOUT may be at most."""
    assert BatchBound(3_600).max_bytes == 16_000_000


def test_rows_are_not_more_than_wanted_or_than_a_batch(bound):
    """A call may have a limit of its own."""
    assert (bound.rows(500), bound.rows(3)) == (500, 3)


def test_a_time_out_halves_rows_and_bytes(bound):
    """The same batch would be late again."""
    bound.halve()
    assert (bound.rows(500), bound.max_bytes) == (250, 1_562_500)


def test_halving_ends_at_one_message(bound):
    """However many time-outs there are, and also for a call that wants few."""
    for _ in range(20):
        bound.halve()
    assert (bound.rows(500), bound.rows(3), bound.max_bytes > 0) == (1, 1, True)


def test_full_batches_that_take_little_time_make_it_grow_again(bound):
    """To what it was, and not further."""
    for _ in range(20):
        bound.halve()
    for _ in range(20):
        bound.note_batch(0.1, full=True)
    assert (bound.rows(500), bound.max_bytes) == (500, 3_125_000)


@pytest.mark.parametrize(("seconds", "full"), [(2, True), (0.1, False)])
def test_a_batch_that_proves_nothing_leaves_it_as_it_is(bound, seconds, full):
    """Twice as much might be late, or was not there to be carried."""
    bound.halve()
    bound.note_batch(seconds, full=full)
    assert bound.rows(500) == 250


def test_a_batch_that_was_nearly_late_halves_it(bound):
    """With a little more load on the link the next one would be late."""
    bound.note_batch(2.6, full=True)
    assert bound.rows(500) == 250
