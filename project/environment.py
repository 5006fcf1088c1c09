"""Reads environment variables with django-environ into typed values.

A variable that is not set, or empty, means the default. A wrong value is refused at start, with an
error that names the variable, its value and what is expected.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from difflib import get_close_matches
from typing import Any, Never, TypeVar
from urllib.parse import unquote, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

T = TypeVar("T")

env = environ.Env()

# For a file that several processes write to. IMMEDIATE takes the write lock at BEGIN, where SQLite
# waits for it; a transaction that has read first and then writes would fail at once. WAL lets other
# processes read meanwhile. synchronous=FULL makes a commit survive a power cut: NORMAL, the usual
# advice with WAL, may lose the last commits, and the record of messages that were sent already.
SQLITE_OPTIONS = {
    "transaction_mode": "IMMEDIATE",
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL",
    "timeout": 20,  # seconds to wait for the write lock
}

PREFIX = "OUTBOX_INBOX_"
FAULTS = "OUTBOX_INBOX_FAULTS", "OUTBOX_INBOX_FAULTS_SEED", "OUTBOX_INBOX_ALLOW_FAULTS"


def text(name: str, default: str = "") -> str:
    """Return the variable `name`, or the default when it is not set or empty."""
    return str(env.str(name, default="")).strip() or default


def yes_or_no(name: str, *, default: bool) -> bool:
    """Return the variable `name` as a boolean; a misspelt "ture" is an error, not a no."""
    value = text(name).lower()
    if value and value not in {"1", "true", "yes", "on", "0", "false", "no", "off"}:
        _refuse(name, value, "yes or no (also: true, false, on, off, 1, 0)")
    return value in {"1", "true", "yes", "on"} if value else default


def day(name: str) -> date | None:
    """Return the variable `name` as a date; None when it is not set."""
    value = text(name)
    if not value:
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:
        _refuse(name, value, "a date such as 2018-05-06")


def words(name: str) -> list[str]:
    """Return the variable `name`, a list separated by commas."""
    return [word.strip() for word in text(name).split(",") if word.strip()]


def chosen(name: str, known: Sequence[str]) -> tuple[str, ...]:
    """Return the known words that are listed in the variable `name`; all when it is not set."""
    given = words(name)
    for word in given:
        if word not in known:
            _refuse(name, word, f"some of {', '.join(known)}, separated by commas")
    if text(name) and not given:
        _refuse(name, text(name), f"some of {', '.join(known)}, separated by commas")
    return tuple(word for word in known if word in given) or tuple(known)


def transport(name: str, prefix: str) -> str | dict[str, Any]:
    """Return the entry of TRANSPORTS for the URL in the variable `name`; default: local://.

    All names at the broker begin with the value of the variable `prefix`. A password is taken out of
    the URL: error mails of Django show a URL, and hide what is named PASSWORD.
    """
    url, begin = text(name, "local://"), text(prefix)
    url, password = _without_password(url)
    options = {"PASSWORD": password} if password else {}
    if begin:
        # RabbitMQ has two kinds of names: exchanges and queues.
        names = ["PREFIX", "QUEUE_PREFIX"] if url.startswith("amqp") else ["PREFIX"]
        options |= dict.fromkeys(names, begin)
    return {"LOCATION": url, "OPTIONS": options} if options else url


def _without_password(url: str) -> tuple[str, str]:
    """Return a URL and its password; one that cannot be read is returned as it is."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url, ""
    host = parts.netloc.rpartition("@")[2]
    if parts.fragment or "@" in parts.path or not (parts.password and host):
        return url, ""
    user = f"{parts.username}@" if parts.username else ""
    return parts._replace(netloc=user + host).geturl(), unquote(parts.password)


def database(name: str, default: str = "") -> dict[str, Any]:
    """Return the entry of DATABASES for the URL in the variable `name`."""
    url = text(name, default)
    scheme = url.partition("://")[0]
    if scheme not in environ.Env.DB_SCHEMES:
        _refuse(
            name,
            scheme,
            "a database URL: sqlite:///FILE, postgres://USER:PASSWORD@HOST/NAME or mysql://…",
        )
    try:
        entry: dict[str, Any] = environ.Env.db_url_config(url)
    except ValueError:
        # Without the URL and the text of the error, which quotes it: they may contain a password.
        raise ImproperlyConfigured(
            f"{name} is not a database URL; expected postgres://USER:PASSWORD@HOST/NAME or the like, "
            "with special characters of the password percent-encoded."
        ) from None
    if scheme == "sqlite":
        entry["OPTIONS"] = SQLITE_OPTIONS | entry.get("OPTIONS", {})
    else:
        entry.setdefault("CONN_HEALTH_CHECKS", True)
    return entry


def whole_number(name: str, value: str) -> int:
    """Return the value as an int."""
    if not re.fullmatch(r"\d{1,9}", value):
        _refuse(name, value, "a whole number, such as 500")
    return int(value)


def number(name: str, value: str) -> float:
    """Return the value as a float."""
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value):
        _refuse(name, value, "a number, such as 2 or 0.5")
    return float(value)


def duration(name: str, value: str) -> timedelta:
    """Return the value, such as 250ms, 5s, 10m, 2h or 7d, as a timedelta."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d)", value)
    if not found:
        _refuse(name, value, "a duration with its unit, such as 250ms, 5s, 10m, 2h or 7d")
    units = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    return timedelta(**{units[found[2]]: float(found[1])})


def word(_name: str, value: str) -> str:
    """Return the value unchanged; outbox_inbox checks it."""
    return value


VARIABLES: dict[str, Callable[[str, str], Any]] = {
    "BATCH_SIZE": whole_number,
    "BATCH_TIME": duration,
    "PARTITIONS_OUTBOX": whole_number,
    "PARTITIONS_INBOX": whole_number,
    "MAX_ATTEMPTS": whole_number,
    "BACKOFF_FIRST": duration,
    "BACKOFF_FACTOR": number,
    "BACKOFF_MAXIMUM": duration,
    "BACKOFF_JITTER": number,
    "PUBLISH_TIMEOUT": duration,
    "FROZEN_AFTER": duration,
    "RETENTION": duration,
    "DEDUPLICATION": duration,
    "MAX_PAYLOAD": whole_number,
    "MAX_HOPS": whole_number,
    "WAKE_UP": word,
}
NESTED = "PARTITIONS", "BACKOFF"


def outbox_inbox(given: Iterable[str]) -> dict[str, Any]:
    """Return the part of the setting OUTBOX_INBOX that is given by variables OUTBOX_INBOX_….

    Arguments:
        given: the names of all variables; an unknown one that begins with the prefix is refused.
    """
    setting: dict[str, Any] = {}
    for name in sorted(given):
        if not name.startswith(PREFIX) or name in FAULTS or not text(name):
            continue
        key = name.removeprefix(PREFIX)
        if key not in VARIABLES:
            _refuse_unknown(name)
        value = VARIABLES[key](name, text(name))
        section, _, rest = key.partition("_")
        if section in NESTED:
            setting.setdefault(section, {})[rest.lower()] = value
        else:
            setting[key] = value
    return setting


def _refuse(name: str, value: str, expected: str) -> Never:
    raise ImproperlyConfigured(f"The variable {name} holds {value!r}; expected {expected}.")


def _refuse_unknown(name: str) -> Never:
    known = [f"{PREFIX}{key}" for key in VARIABLES]
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}."
    raise ImproperlyConfigured(f"The variable {name} is unknown; {hint}")
