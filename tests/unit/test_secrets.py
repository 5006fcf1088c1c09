"""No error, check, repr or error mail shows a password that is in the settings."""

import sys

import pytest
from django.core.checks import run_checks
from django.test import RequestFactory
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter

from outbox_inbox.conf import settings as read_settings
from outbox_inbox.contexts import contexts
from outbox_inbox.exceptions import OutboxInboxError, SettingsError
from outbox_inbox.transports import transport
from tests.depot.apps import DepotConfig

SECRET = "topsecret"
URL = f"redis://:{SECRET}@host"
ENTRY = {"LOCATION": "redis://host"}
WRONG = {
    "the whole setting": URL,
    "the whole setting in a list": [URL],
    "a key of the setting": {URL: 1},
    "transports": {"TRANSPORTS": URL},
    "transports in a list": {"TRANSPORTS": [URL]},
    "transports in a set": {"TRANSPORTS": {URL}},
    "an alias": {"TRANSPORTS": {URL: "default"}},
    "an alias and its URL": {"TRANSPORTS": {URL: URL}},
    "a tuple": {"TRANSPORTS": {"default": (URL,)}},
    "bytes": {"TRANSPORTS": {"default": URL.encode()}},
    "a location in a tuple": {"TRANSPORTS": {"default": {"LOCATION": (URL,)}}},
    "a location in bytes": {"TRANSPORTS": {"default": {"LOCATION": URL.encode()}}},
    "a location in a dict": {"TRANSPORTS": {"default": {"LOCATION": {"url": URL}}}},
    "a URL as backend": {"TRANSPORTS": {"default": {"BACKEND": f"redis://:{SECRET}@host.com/0"}}},
    "a key of the entry": {"TRANSPORTS": {"default": {URL: "LOCATION"}}},
    "options": {"TRANSPORTS": {"default": {**ENTRY, "OPTIONS": URL}}},
    "an option": {"TRANSPORTS": {"default": {**ENTRY, "OPTIONS": {URL: 1}}}},
    "a prefix": {"TRANSPORTS": {"default": {**ENTRY, "OPTIONS": {"PREFIX": [URL]}}}},
    "a password in bytes": {"TRANSPORTS": {"default": {**ENTRY, "OPTIONS": {"PASSWORD": SECRET.encode()}}}},
    "a context": {"CONTEXTS": {"depot": URL}},
    "a label": {"CONTEXTS": {URL: {"transport": 1}}},
    "the alias of a context": {"CONTEXTS": {"depot": {"transport": URL}}},
    "the database of a context": {"CONTEXTS": {"depot": {"database": f"postgres://u:{SECRET}@h/d"}}},
    "the source of a context": {"CONTEXTS": {"depot": {"source": URL}}},
    "a number": {"BATCH_SIZE": URL},
    "a duration": {"RETENTION": URL},
    "a choice": {"WAKE_UP": URL},
    "no scheme": {"TRANSPORTS": {"default": f"u:{SECRET}@host"}},
    "an unknown scheme": {"TRANSPORTS": {"default": f"u:{SECRET}@host://x"}},
    **{
        f"{scheme} {number}": {"TRANSPORTS": {"default": f"{scheme}://{rest}"}}
        for scheme in ("redis", "amqp")
        for number, rest in enumerate(
            (
                f"u:{SECRET}\u2100@h//",
                f"u:top[{SECRET}@h//",
                f"u:{SECRET}#x@h//",
                f"u:{SECRET}/x@h//",
                f"u:{SECRET}?x@h//",
                f"u:x@{SECRET}@h:port//",
                f"u:{SECRET}",
                f"u:12345#{SECRET}@h//",
            )
        )
        if (scheme, number) != ("redis", 4)  # what follows "?" are options of redis-py
    },
}  # fmt: skip


def everything_said():
    """Return the error and what the checks say, and the error mail that Django would send."""
    with pytest.raises((OutboxInboxError, SettingsError)) as raised:
        [
            transport(each)
            for each in (*read_settings().transports, *(c.transport for c in contexts()))
        ]
    checked = [f"{each.msg} {each.hint}" for each in run_checks(tags=["outbox_inbox"])]
    return "\n".join([str(raised.value), repr(raised.value), *checked]), mail_about(raised.value)


def mail_about(error):
    """Return the parts of Django's error mail that are about the error, without the settings."""
    request = RequestFactory().get("/")
    reporter = ExceptionReporter(request, type(error), error, error.__traceback__)
    frames = reporter.get_traceback_frames()
    assert frames
    return repr([each["vars"] for each in frames if "/outbox_inbox/" in each["filename"]])


@pytest.fixture
def production(settings):
    """DEBUG is off: with it on, Django shows everything to the developer."""
    settings.DEBUG = False


@pytest.mark.usefixtures("production")
@pytest.mark.parametrize("name", WRONG)
def test_no_error_shows_a_password_that_is_in_the_wrong_place(settings, name):
    """Whatever shape the setting has: neither the error, nor the checks, nor the error mail."""
    settings.OUTBOX_INBOX = WRONG[name]
    said, mail = everything_said()
    assert SECRET not in said
    assert SECRET not in mail


@pytest.mark.usefixtures("production")
def test_no_error_shows_the_url_that_a_context_has_as_its_alias(settings, monkeypatch):
    """In the class of the context instead of the settings."""
    monkeypatch.setattr(DepotConfig, "transport", URL)
    settings.OUTBOX_INBOX = {}
    said, mail = everything_said()
    assert SECRET not in said + mail


def test_the_error_still_says_what_is_wrong(settings):
    """A word or a number is shown, since it cannot be a URL."""
    settings.OUTBOX_INBOX = {"WAKE_UP": "celry", "BATCH_SIZE": "many", "MAX_HOPS": 0}
    with pytest.raises(SettingsError) as raised:
        read_settings()
    said = str(raised.value)
    assert all(each in said for each in ("'celry'", "'many'", "is 0;"))


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_the_pages_of_django_hide_a_password_among_the_options(settings, scheme):
    """Its name is one that Django hides; a URL with it would be shown."""
    options = {"USERNAME": "u", "PASSWORD": SECRET}
    settings.OUTBOX_INBOX = {
        "TRANSPORTS": {"default": {"LOCATION": f"{scheme}://h", "OPTIONS": options}}
    }
    assert dict(transport("default").settings.options) == options
    texts = repr((read_settings(), SafeExceptionReporterFilter().get_safe_settings()))
    assert SECRET not in texts


def test_keys_of_signatures_are_hidden_by_django(settings):
    """They are below the name "keys"."""
    keys = {"keys": {"2026-11": SECRET * 4}}
    settings.OUTBOX_INBOX = {"CONTEXTS": {"depot": {"signing": keys, "verifying": {"shop": keys}}}}
    read_settings()
    assert SECRET not in repr(SafeExceptionReporterFilter().get_safe_settings())


def test_a_wrong_key_in_the_settings_is_in_no_error_mail(settings):
    """Whatever the other keys of the setting are."""
    settings.DEBUG = False
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": URL}, "BATCH_SIZE": 0}
    try:
        read_settings()
    except SettingsError:
        found = ExceptionReporter(RequestFactory().get("/"), *sys.exc_info()).get_traceback_frames()
    assert SECRET not in repr([each["vars"] for each in found[1:]])
