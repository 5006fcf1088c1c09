"""``amqp://`` without a server: its options, what it imports, and what it makes of headers."""

import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from outbox_inbox.conf import TransportSettings
from outbox_inbox.exceptions import SettingsError
from outbox_inbox.transports import transport
from outbox_inbox.transports.amqp.headers import text_of
from outbox_inbox.transports.amqp.options import read_options
from outbox_inbox.transports.amqp.publisher import Confirmations

OTHERS = (
    "redis://127.0.0.1/0",
    "rediss://127.0.0.1/0",
    "memory://",
    "pyamqp://localhost",
    "librabbitmq://localhost",
    "sqla+sqlite:///x",
    "sqs://",
    "amqp+redis://localhost",
    "localhost",
    "",
)


def options(location="amqp://guest:guest@localhost//", **given):
    """Return what is read from an entry of TRANSPORTS."""
    return read_options(TransportSettings(backend="", location=location, options=given))


@pytest.mark.parametrize("url", OTHERS)
def test_no_other_transport_of_kombu_is_used(settings, url):
    """Kombu would take any of them, and its topic exchange on Redis loses messages."""
    backend = "outbox_inbox.transports.amqp.AmqpTransport"
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": {"BACKEND": backend, "LOCATION": url}}}
    if not url:
        del settings.OUTBOX_INBOX["TRANSPORTS"]["default"]["LOCATION"]
    with pytest.raises(SettingsError, match="expected amqp:// or amqps://"):
        transport("default")


@pytest.mark.parametrize("scheme", ["amqp", "amqps"])
def test_its_schemes_choose_it(settings, scheme):
    """A URL is all that is needed."""
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": f"{scheme}://localhost//"}}
    assert type(transport("default")).__name__ == "AmqpTransport"


def test_there_are_defaults():
    """The names of design and documentation."""
    found = options()
    assert (found.prefix, found.queue_prefix) == ("events", "inbox")
    assert (found.queue_type, found.unroutable) == ("quorum", "refuse")
    assert found.heartbeat.total_seconds() == 20


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"QUEUE_TIPE": "classic"}, "did you mean 'QUEUE_TYPE'"),
        ({"QUEUE_TYPE": "stream"}, "one of 'quorum', 'classic'"),
        ({"UNROUTABLE": "ignore"}, "one of 'refuse', 'drop'"),
        ({"PREFIX": 7}, "expected a name"),
        ({"HEARTBEAT": 20}, "expected a timedelta"),
        ({"HEARTBEAT": __import__("datetime").timedelta(milliseconds=5)}, "at least a second"),
        ({"SSL": True}, "expected a dict"),
    ],
)
def test_a_wrong_option_is_refused_by_name(given, expected):
    """With what is expected there."""
    with pytest.raises(SettingsError, match=expected):
        options(**given)


@pytest.mark.parametrize(
    "url",
    [
        "amqp://me:s3cr3t@one;amqp://me:s3cr3t@two",
        "amqp://me:s3cr3t@host/?heartbeat=5",
        "amqp://me:12/s3cr3t@host",
        "amqp://me:s3cr3t#x@host",
        "amqp://me:s3cr3t/@host",
        "amqp://me:s3cr3t@host:port",
        "amqps:s3cr3t",
    ],
)
def test_a_wrong_location_is_refused_without_being_shown(url):
    """It may hold a password, also where it was put together wrongly."""
    with pytest.raises(SettingsError) as caught:
        options(url)
    assert "s3cr3t" not in str(caught.value)


def test_only_the_address_is_ever_shown():
    """In errors, which get into the database and the logs."""
    found = options("amqp://me:s3cr3t@host:5673/%2Fshop")
    assert found.shown == "amqp://host:5673/%2Fshop"
    assert "s3cr3t" not in repr(found)


PLAIN = """
import django, sys
from django.conf import settings
settings.configure(INSTALLED_APPS=["outbox_inbox"], OUTBOX_INBOX={settings})
django.setup()
{hide}
from outbox_inbox.exceptions import SettingsError
from outbox_inbox.transports import transport
try:
    transport("default")
except SettingsError as error:
    print(error)
print(sorted({{"kombu", "amqp"}} & set(sys.modules)))
"""


def in_a_plain_project(settings, hide=""):
    """Return what a process prints that uses nothing but this app."""
    code = PLAIN.format(settings=settings, hide=hide)
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return found.stdout


def test_kombu_is_imported_when_it_is_used_and_no_sooner():
    """A project without RabbitMQ does not need it."""
    assert in_a_plain_project({}) == "[]\n"
    amqp = {"TRANSPORTS": {"default": "amqp://localhost"}}
    assert in_a_plain_project(amqp) == "['amqp', 'kombu']\n"


def test_without_kombu_the_error_names_the_extra():
    """It says what to install."""
    amqp = {"TRANSPORTS": {"default": "amqp://localhost"}}
    told = in_a_plain_project(amqp, "sys.modules['kombu'] = None")
    assert "pip install 'outbox_inbox[amqp]'" in told


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("ÿ", "ÿ"),
        (b"\xc3\xbf", "ÿ"),
        (b"\xff", "\\xff"),
        (7, "7"),
        (True, "true"),
        (1.5, "1.5"),
        (float("nan"), "nan"),
        (Decimal("1.50"), "1.50"),
        (datetime(2030, 1, 2, tzinfo=UTC), "2030-01-02T00:00:00+00:00"),
        ([1, b"\xff", {"a": Decimal(1)}], '[1, "\\\\xff", {"a": "1"}]'),
        ({b"\xff": 1}, "{}"),
    ],
)
def test_every_value_of_a_header_is_text(value, text):
    """Its judge finds a string."""
    assert text_of(value) == text


def test_a_table_that_is_too_deep_is_text_as_well():
    """Recursion has its limits."""
    table = {}
    for _ in range(100_000):
        table = {"a": table}
    assert text_of(table) == "a dict that is too deep"


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ([(1, False)], [2, 3, 4]),
        ([(3, True)], [4]),
        ([(2, False), (3, True)], [4]),
        ([(0, True)], []),
        ([(4, False), (1, False), (9, False), (3, True)], []),
    ],
)
def test_confirmations_come_in_any_order_and_many_at_once(said, left):
    """A tag stands for one message, or for all up to it; 0 stands for all."""
    confirms = Confirmations()
    for _ in range(4):
        confirms.count_message()
    for tag, multiple in said:
        confirms._on_ack(tag, multiple)
    assert list(confirms.open) == left
