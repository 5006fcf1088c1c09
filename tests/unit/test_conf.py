from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from outbox_inbox.conf import Backoff, Settings, section, settings
from outbox_inbox.exceptions import SettingsError

HOUR = timedelta(hours=1)


def read(**given):
    """Return the settings made of these keys."""
    with override_settings(OUTBOX_INBOX=given):
        return settings()


def problems(**given):
    """Return the lines of the error that these keys lead to."""
    with pytest.raises(SettingsError) as caught:
        read(**given)
    return str(caught.value).splitlines()


@pytest.fixture
def without_setting(settings):
    """A project that has no OUTBOX_INBOX."""
    del settings.OUTBOX_INBOX


@pytest.mark.usefixtures("without_setting")
def test_no_setting():
    """Without OUTBOX_INBOX everything has its default."""
    assert settings() == Settings()


def test_default_transport():
    """The default transport is local, unless it is given."""
    assert read().transports["default"].location == "local://"


def test_every_key():
    """Each key arrives in the field of its name."""
    given = {
        "BATCH_SIZE": 7,
        "BATCH_TIME": HOUR / 2,
        "MAX_ATTEMPTS": 3,
        "PUBLISH_TIMEOUT": timedelta(seconds=2),
        "RETENTION": HOUR,
        "DEDUPLICATION": 2 * HOUR,
        "MAX_PAYLOAD": 1_000,
        "MAX_HOPS": 4,
        "WAKE_UP": "notify",
        "FROZEN_AFTER": timedelta(seconds=3),
    }
    found = read(**given)
    assert {key: getattr(found, key.lower()) for key in given} == given


def test_partitions():
    """Queues have their numbers of partitions, and what is not given keeps its default."""
    partitions = read(PARTITIONS={"outbox": 4}).partitions
    assert (partitions.outbox, partitions.inbox) == (4, 8)


def test_backoff():
    """The dict BACKOFF becomes a Backoff."""
    given = {"first": HOUR, "factor": 3, "maximum": 5 * HOUR, "jitter": 0}
    assert read(BACKOFF=given).backoff == Backoff(HOUR, 3, 5 * HOUR, 0)


def test_long_first_pause():
    """A first pause beyond the default maximum raises that maximum."""
    assert read(BACKOFF={"first": 2 * HOUR}).backoff.maximum == 2 * HOUR


MEMORY = "outbox_inbox.transports.memory.MemoryTransport"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("memory://x", (MEMORY, "memory://x", {})),
        ({"LOCATION": "memory://"}, (MEMORY, "memory://", {})),
        (
            {"BACKEND": "shop.bus.Bus", "LOCATION": "bus://x", "OPTIONS": {"depth": 3}},
            ("shop.bus.Bus", "bus://x", {"depth": 3}),
        ),
    ],
    ids=["url", "dict_without_backend", "dict"],
)
def test_transport_by(given, expected):
    """A URL chooses the transport by its scheme; a dict may name a class, with its options."""
    bus = read(TRANSPORTS={"bus": given}).transports["bus"]
    assert (bus.backend, bus.location, dict(bus.options)) == expected


def test_context_overrides():
    """What a deployment overrides of a context arrives; the rest is None."""
    found = read(
        CONTEXTS={"shop": {"database": "default", "transport": "default", "source": "stream"}}
    ).contexts["shop"]
    assert (found.database, found.transport, found.source) == ("default", "default", "stream")


def test_override_settings():
    """The object is read anew inside override_settings, and again after it."""
    before = settings().batch_size
    with override_settings(OUTBOX_INBOX={"BATCH_SIZE": before + 1}):
        inside = settings().batch_size
    assert (inside, settings().batch_size) == (before + 1, before)


def test_read_once():
    """The setting is read once, since hot code asks for it."""
    assert settings() is settings()


def test_frozen():
    """Settings that were handed out cannot be changed."""
    with pytest.raises(AttributeError):
        settings().batch_size = 3


def test_options_are_read_only():
    """A transport cannot change the options it was given."""
    with pytest.raises(TypeError):
        read(TRANSPORTS={"b": {"BACKEND": "a.B", "OPTIONS": {"x": 1}}}).transports["b"].options[
            "x"
        ] = 2


def test_error_type():
    """Django treats a wrong setting as it treats its own."""
    assert issubclass(SettingsError, ImproperlyConfigured)


COUNT = "expected a whole number from 1 to"


@pytest.mark.parametrize(
    ("given", "path", "says"),
    [
        ({"BATCH_SIZ": 5}, '["BATCH_SIZ"]', "unknown; did you mean 'BATCH_SIZE'?"),
        ({"batch_size": 5}, '["batch_size"]', "unknown; did you mean 'BATCH_SIZE'?"),
        ({"BATCH_SIZE": 0}, '["BATCH_SIZE"]', f"0; {COUNT} 10,000"),
        ({"BATCH_SIZE": True}, '["BATCH_SIZE"]', f"True; {COUNT} 10,000"),
        ({"MAX_HOPS": 2.5}, '["MAX_HOPS"]', f"2.5; {COUNT} 10,000"),
        (
            {"RETENTION": 7},
            '["RETENTION"]',
            "7; expected a timedelta, such as timedelta(seconds=5)",
        ),
        (
            {"BATCH_TIME": timedelta(0)},
            '["BATCH_TIME"]',
            "datetime.timedelta(0); expected a timedelta longer than zero and at most 1:00:00",
        ),
        (
            {"WAKE_UP": "Celery"},
            '["WAKE_UP"]',
            "'Celery'; expected one of 'celery', 'notify' or None; did you mean 'celery'?",
        ),
        ({"PARTITIONS": 4}, '["PARTITIONS"]', "4; expected a dict"),
        ({"PARTITIONS": {"outbox": 0}}, '["PARTITIONS"]["outbox"]', f"0; {COUNT} 1,024"),
        (
            {"PARTITIONS": {"inboks": 2}},
            '["PARTITIONS"]["inboks"]',
            "unknown; did you mean 'inbox'?",
        ),
        ({"BACKOFF": {"factor": "2"}}, '["BACKOFF"]["factor"]', "'2'; expected a number"),
        (
            {"BACKOFF": {"jitter": 1}},
            '["BACKOFF"]["jitter"]',
            "1; expected a number of at least 0 and less than 1",
        ),
        (
            {"BACKOFF": {"first": HOUR, "maximum": HOUR / 2}},
            '["BACKOFF"]["maximum"]',
            "datetime.timedelta(seconds=1800); expected a timedelta of at least first (1:00:00)",
        ),
        (
            {"TRANSPORTS": {"bus": 5}},
            '["TRANSPORTS"]["bus"]',
            '5; expected a URL such as "local://" or a dict with BACKEND, LOCATION, OPTIONS',
        ),
        (
            {"TRANSPORTS": {"bus": {"BACKEND": "Bus"}}},
            '["TRANSPORTS"]["bus"]["BACKEND"]',
            "'Bus'; expected the dotted path of a class",
        ),
        (
            {"TRANSPORTS": {"bus": {"BACKEND": "a.B", "OPTION": {}}}},
            '["TRANSPORTS"]["bus"]["OPTION"]',
            "unknown; did you mean 'OPTIONS'?",
        ),
        (
            {"CONTEXTS": {"shop": {"databse": "default"}}},
            '["CONTEXTS"]["shop"]["databse"]',
            "unknown; did you mean 'database'?",
        ),
        (
            {"CONTEXTS": {"shop": {"transport": "bus"}}},
            '["CONTEXTS"]["shop"]["transport"]',
            "'bus'; expected one of 'default' or None",
        ),
    ],
)
def test_mistakes(given, path, says):
    """A mistake is refused with its path, its value, and what is expected there."""
    assert problems(**given) == [f"OUTBOX_INBOX{path} is {says}"]


def test_wrong_key():
    """A key that is not a string has no path."""
    (message,) = problems(TRANSPORTS={7: "local://"})
    assert message == 'OUTBOX_INBOX["TRANSPORTS"] has the key 7; expected a string'


@pytest.mark.parametrize(
    "wrong",
    [
        {f"WRONG_{number}": 1 for number in range(1_000)},
        {"TRANSPORTS": {f"bus{number}": "lokal://" for number in range(1_000)}},
        {"CONTEXTS": {f"shop{number}": {"source": "strem"} for number in range(1_000)}},
    ],
    ids=["keys", "schemes", "choices"],
)
def test_very_many_mistakes_cost_no_more_than_a_few(wrong, monkeypatch):
    """A close word is looked for in the first ones only, and the error stays readable."""
    asked = []
    close = section.get_close_matches
    monkeypatch.setattr(
        section, "get_close_matches", lambda *a, **o: asked.append(a) or close(*a, **o)
    )
    found = problems(**wrong)
    assert (len(asked), len(found), found[-1]) == (20, 101, "and 900 more mistakes")


def test_unknown_database():
    """A context cannot be put on a database that is not in DATABASES."""
    (message,) = problems(CONTEXTS={"shop": {"database": "defualt"}})
    assert message.startswith("""OUTBOX_INBOX["CONTEXTS"]["shop"]["database"] is 'defualt'""")


def test_unknown_scheme():
    """A URL with an unknown scheme is refused with the known ones, and its password kept quiet."""
    (message,) = problems(TRANSPORTS={"bus": "smtp://me:secret@host"})
    assert message.startswith("""OUTBOX_INBOX["TRANSPORTS"]["bus"] has the unknown URL scheme""")
    assert "memory" in message
    assert "secret" not in message


def test_no_password_in_repr():
    """A transport's location and options, which may hold passwords, are in no log entry."""
    entry = {"BACKEND": "a.B", "LOCATION": "a://me:secret@b", "OPTIONS": {"password": "secret"}}
    assert "secret" not in repr(read(TRANSPORTS={"bus": entry}))


def test_all_mistakes_at_once():
    """One error tells all mistakes, so that one edit can correct them."""
    assert len(problems(BATCH_SIZE=0, MAX_HOPS=0, WAKE_UP="x", PARTITIONS={"x": 1})) == 4


def test_not_a_dict():
    """Anything but a dict is refused."""
    with override_settings(OUTBOX_INBOX=["x"]), pytest.raises(SettingsError, match="a dict"):
        settings()


def test_wrong_settings_stay_wrong():
    """Each call says so, not only the first one, whose error may have been caught."""
    with override_settings(OUTBOX_INBOX={"BATCH_SIZE": 0}):
        for _ in range(2):
            with pytest.raises(SettingsError, match="BATCH_SIZE"):
                settings()


def test_deduplication_covers_retention():
    """Ids are remembered at least as long as messages are kept, which can be sent again (O8)."""
    (message,) = problems(RETENTION=timedelta(days=60))
    assert message.startswith("""OUTBOX_INBOX["DEDUPLICATION"] (30 days""")


def test_waiting_is_not_frozen():
    """A relay that waits for its transport must not be taken for a frozen one."""
    (message,) = problems(PUBLISH_TIMEOUT=HOUR)
    assert message.startswith("""OUTBOX_INBOX["FROZEN_AFTER"] (0:01:00) is not longer than""")
