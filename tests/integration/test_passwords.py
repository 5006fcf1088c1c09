"""A user and a password among the OPTIONS of a broker, and what Django's error mail shows of them."""

from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from django.test import RequestFactory
from django.views.debug import ExceptionReporter

from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.transports import transport

SECRET = f"topsecret{uuid4().hex}"


@pytest.fixture
def redis_user(redis_url):
    """A user of Redis, as its options."""
    from redis import Redis

    name = f"outbox-{uuid4().hex}"
    with Redis.from_url(redis_url) as client:
        client.execute_command("ACL", "SETUSER", name, "reset", "on", f">{SECRET}", "~*", "+@all")
        yield {"USERNAME": name, "PASSWORD": SECRET}
        client.execute_command("ACL", "DELUSER", name)


@pytest.fixture
def bus(settings):
    """Return a function that makes a transport with these options; DEBUG is off."""
    settings.DEBUG = False

    def make(url, **options):
        entry = {"LOCATION": url, "OPTIONS": {"PREFIX": uuid4().hex, **options}}
        settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": entry}}
        return transport("default")

    return make


def variables_of(error):
    """Return the variables that Django's error mail shows, of every function but the test itself."""
    reporter = ExceptionReporter(RequestFactory().get("/"), type(error), error, error.__traceback__)
    found = [each for each in reporter.get_traceback_frames() if each["filename"] != __file__]
    assert {"_connect", "_open"} & {each["function"] for each in found}
    return repr([each["vars"] for each in found])


def ask(made):
    """Have a transport ask its server, as the receiver of a context does."""
    depot = get_context("depot")
    with made.attached(depot):
        made.receive(depot, 1)


def test_the_options_of_redis_have_the_user(bus, redis_url, redis_user):
    """Nothing of it is in the URL."""
    ask(bus(redis_url, **redis_user))


def test_the_options_of_redis_go_before_the_url(bus, redis_url, redis_user):
    """So a password may move there before it is taken out of the URL."""
    host = redis_url.partition("://")[2].rpartition("@")[2]
    ask(bus(f"redis://stranger:wrong@{host}", **redis_user))


@pytest.mark.rabbitmq
def test_the_options_of_rabbitmq_have_the_user(broker, settings):
    """And go before the URL."""
    parts = urlsplit(broker.url)
    wrong = parts._replace(netloc=f"stranger:wrong@{parts.netloc.rpartition('@')[2]}").geturl()
    user = {"USERNAME": parts.username, "PASSWORD": parts.password}
    settings.OUTBOX_INBOX = broker.setting(wrong, **user)
    ask(transport("default"))


@pytest.mark.parametrize("place", ["options", "URL"])
@pytest.mark.parametrize("scheme", ["redis", pytest.param("amqp", marks=pytest.mark.rabbitmq)])
def test_the_error_mail_about_a_refused_login_has_no_password(bus, request, scheme, place):
    """Neither in the text of the error, nor in a variable of this app or of a driver."""
    host = request.getfixturevalue(f"{scheme}_url").partition("://")[2].rpartition("@")[2]
    if place == "options":
        made = bus(f"{scheme}://{host}", USERNAME="stranger", PASSWORD=SECRET)
    else:
        made = bus(f"{scheme}://stranger:{SECRET}@{host}")
    with pytest.raises(TransportUnavailable) as raised:
        ask(made)
    assert SECRET not in str(raised.value) + variables_of(raised.value)
