"""OPTIONS of a Redis transport."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from outbox_inbox.conf.section import checked_section

_KEYS = ("USERNAME", "PASSWORD", "PREFIX", "MAX_ENTRY", "MAX_AGE", "KEEP")
_CENTURY = timedelta(days=36_500)
_BIGGEST = 512 * 1024 * 1024  # bytes; the default of proto-max-bulk-len


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a Redis transport; the key of a field is its name in capitals.

    Fields:
        username, password: in place of those in the URL; ``repr`` does not show the password.
        prefix: the beginning of the name of every stream; default "events".
        max_entry: bytes that a payload may have; default: what the server takes in one piece
            (``proto-max-bulk-len``).
        max_age: `problems` reports a subscriber that has not read an older entry, and an entry may
            come again for this long; default 7 days. It deletes nothing.
        keep: no entry is deleted earlier, also if every known subscriber has it: one that has no
            group yet may be another deployment, of which nothing here knows; default one hour.
    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    prefix: str = "events"
    max_entry: int | None = None
    max_age: timedelta = timedelta(days=7)
    keep: timedelta = timedelta(hours=1)


def read_options(given: Mapping[str, Any]) -> Options:
    """Return OPTIONS, or raise `SettingsError` with all mistakes at once, one a line."""
    default = Options()
    with checked_section("OPTIONS of the Redis transport", given, _KEYS) as section:
        return Options(
            username=section.text("USERNAME", "a name"),
            password=section.text("PASSWORD", "a text that is not empty", secret=True),
            prefix=section.text("PREFIX", "a text that is not empty") or default.prefix,
            max_entry=(
                section.integer("MAX_ENTRY", _BIGGEST, _BIGGEST) if given.get("MAX_ENTRY") else None
            ),
            max_age=section.duration("MAX_AGE", default.max_age, _CENTURY),
            keep=section.duration("KEEP", default.keep, _CENTURY),
        )
