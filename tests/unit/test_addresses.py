"""Mistakes in the address of a server that can be seen without it."""

import socket

import pytest

from outbox_inbox.checks.deployment import check_project
from outbox_inbox.exceptions import SettingsError
from outbox_inbox.transports import transport
from outbox_inbox.transports.addresses import is_host, tls_problems


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "redis.svc", "my_host", "äö.se"])
def test_a_host_has_a_name_or_an_address(name):
    """Whether it exists is for the network to say."""
    assert is_host(name)


@pytest.mark.parametrize("name", ["a..b", ".a", "", "a b", "x" * 64 + ".se"])
def test_a_host_that_is_not_a_name_is_seen_without_the_network(name):
    """A socket would raise a UnicodeError for each message."""
    assert not is_host(name)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("redis://:geheim@a..b:6379/0", "a host that is not a name"),
        ("amqp://me:geheim@a..b:5672//", "a host that is not a name"),
    ],
)
def test_a_transport_refuses_a_host_that_is_not_a_name(settings, location, expected):
    """Without showing the password beside it."""
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": location}}
    with pytest.raises(SettingsError, match=expected) as caught:
        transport("default")
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("option", ["PREFIX", "QUEUE_PREFIX"])
@pytest.mark.parametrize(("length", "fits"), [(150, True), (151, False)])
def test_a_prefix_leaves_room_for_the_label_of_a_context(settings, option, length, fits):
    """AMQP has 255 bytes for the name of an exchange or a queue."""
    entry = {"LOCATION": "amqp://localhost//", "OPTIONS": {option: "p" * length}}
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": entry}}
    if fits:
        assert transport("default")
        return
    with pytest.raises(SettingsError, match=f"{option}.*at most 150 bytes"):
        transport("default")


def problems(settings, entry):
    """Return what E013 says of a transport that all contexts use."""
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": entry}}
    return [each.msg for each in check_project() if each.id == "outbox_inbox.E013"]


def test_a_key_file_that_does_not_exist_is_found_at_start(settings):
    """With the option that names it (E013)."""
    url = "rediss://127.0.0.1:1/0?ssl_keyfile=/nope"
    assert problems(settings, url) == [
        "The transport 'default' cannot connect: ssl_keyfile names '/nope', which this process "
        "cannot read."
    ]


def test_a_file_without_a_certificate_is_found_at_start(settings, tmp_path):
    """What the library would refuse, it refuses here."""
    empty = tmp_path / "ca.pem"
    empty.touch()
    (problem,) = problems(settings, f"rediss://127.0.0.1:1/0?ssl_ca_certs={empty}")
    assert "its options of TLS are refused" in problem


@pytest.mark.parametrize(
    ("ssl", "expected"),
    [
        ({"ca_certs": "/nope"}, "SSL['ca_certs'] names '/nope'"),
        ({"cacerts": "/x"}, "unexpected keyword argument 'cacerts'"),
        ({"ciphers": "none such"}, "its options of TLS are refused"),
    ],
)
def test_wrong_options_of_tls_are_found_at_start(settings, ssl, expected):
    """Also those of RabbitMQ."""
    entry = {"LOCATION": "amqps://me:geheim@127.0.0.1:1//", "OPTIONS": {"SSL": ssl}}
    (problem,) = problems(settings, entry)
    assert expected in problem
    assert "geheim" not in problem


@pytest.mark.parametrize(
    "location", ["redis://127.0.0.1:1/0", "rediss://127.0.0.1:1/0", "amqps://127.0.0.1:1//"]
)
def test_right_options_need_no_server(settings, location):
    """A check must not connect."""
    assert problems(settings, location) == []


def test_what_wraps_a_socket_gets_one_that_is_not_connected():
    """The options are tried as the library uses them."""
    seen = []

    def wrap(given):
        seen.append(given.getsockname()[1])
        return socket.socket()

    assert list(tls_problems(wrap, {"keyfile": None})) == []
    assert seen == [0]
