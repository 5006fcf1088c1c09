"""What is kept of an error: one line, and the end of its traceback, in a form that databases take."""

import pytest

from outbox_inbox.queues.attempts import error_line, name_function, traceback_text


def chained(reason, context="x" * 30_000):
    """Return an error that was raised from a long one."""
    error = ValueError(reason)
    error.__cause__ = LookupError(context)
    return error


def test_a_long_traceback_keeps_its_end():
    """The last line says what failed; what it was raised from comes before."""
    text = traceback_text(chained("no stock of article 7"))
    assert text.endswith("ValueError: no stock of article 7\n")


def test_a_short_traceback_is_kept_as_a_whole():
    """From the error on that it was raised from."""
    text = traceback_text(chained("no stock", "not found"))
    assert text.startswith("LookupError: not found\n")


@pytest.mark.parametrize("reason", ["\0" * 30_000, "\ud800" * 30_000])
def test_a_traceback_is_short_after_it_was_made_storable(reason):
    """A character that no database takes needs several for its name."""
    text = traceback_text(ValueError(reason))
    assert len(text) <= 20_000


def test_an_error_is_one_line():
    """Lists of the admin and of commands show it in one."""
    assert (
        error_line(ValueError("no stock\n  of\tarticle 7")) == "ValueError: no stock of article 7"
    )


def test_an_error_without_a_text_is_its_name():
    """Nothing follows it."""
    assert error_line(KeyError()) == "KeyError"


def test_a_long_error_keeps_the_function_that_raised_it():
    """Of the text the end is cut, and the name of the function follows."""
    error = ValueError("x" * 30_000)
    name_function(error, "shop.handlers.note")
    line = error_line(error)
    assert len(line) == 1_000
    assert line.endswith("xx… (raised by the function shop.handlers.note)")


def test_the_last_function_that_an_error_passes_is_named():
    """An error that is kept and raised again is named after the function that raised it now."""
    error = ValueError("no")
    for name in ("shop.first", "shop.second"):
        name_function(error, name)
    assert error_line(error) == "ValueError: no (raised by the function shop.second)"
