"""What OPTIONS of a Redis transport may say."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from outbox_inbox.conf.section import Section
from outbox_inbox.exceptions import SettingsError

_CENTURY = timedelta(days=36_500)
_BIGGEST = 512 * 1024 * 1024  # what Redis takes in one piece unless it is told otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a Redis transport; the key of a field is its name in capitals.

    Fields:
        prefix: begins the name of every stream; default "events".
        max_entry: bytes that a payload may have; default: what the server takes in one piece
            (``proto-max-bulk-len``).
        max_age: a subscriber that has not read what is older than this is warned of, and what it
            has not read may come again for as long; default 7 days. Nothing is deleted by it.
    """

    prefix: str = "events"
    max_entry: int | None = None
    max_age: timedelta = timedelta(days=7)


def read_options(given: Mapping[str, Any]) -> Options:
    """Return OPTIONS, read and checked.

    Raises:
        SettingsError: with all mistakes at once, one a line.
    """
    problems: list[str] = []
    known = ("PREFIX", "MAX_ENTRY", "MAX_AGE")
    section = Section("OPTIONS of the Redis transport", given, problems, known)
    default = Options()
    read = Options(
        prefix=section.text("PREFIX", "a text that is not empty") or default.prefix,
        max_entry=(
            section.integer("MAX_ENTRY", _BIGGEST, _BIGGEST) if given.get("MAX_ENTRY") else None
        ),
        max_age=section.duration("MAX_AGE", default.max_age, _CENTURY),
    )
    if problems:
        raise SettingsError("\n".join(problems))
    return read
