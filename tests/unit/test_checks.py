import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.apps import apps
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connections

from outbox_inbox.checks import check_contexts
from tests.support.checked import PUBLISHES, REMOTE, both, ids, run, single

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("fit_database")


def test_healthy_project(packages):
    """Two contexts that fit together pass all checks."""
    assert both(packages) == []


@pytest.mark.sqlite
def test_no_contexts(packages, monkeypatch):
    """A project without contexts passes, on SQLite without options too."""
    monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", {})
    assert run(packages) == []


def test_empty_project(tmp_path):
    """In a project as Django starts it, with the app installed, `manage.py check` is silent."""
    call_command("startproject", "shop", str(tmp_path))
    with (tmp_path / "shop" / "settings.py").open("a") as settings:
        settings.write("INSTALLED_APPS += ['outbox_inbox']\n")
    command = [sys.executable, "manage.py", "check", "--fail-level", "DEBUG"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "shop.settings"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)


def test_e023_contexts_without_the_app(tmp_path):
    """A forgotten app would say nothing: its checks are those that are missing."""
    call_command("startproject", "mysite", str(tmp_path))
    with (tmp_path / "mysite" / "settings.py").open("a") as settings:
        settings.write("INSTALLED_APPS += ['shop']\n")
    modules = {
        "__init__": "",
        "apps": "from outbox_inbox.contexts import ContextConfig\n\n"
        "class ShopConfig(ContextConfig):\n    name = 'shop'\n",
        "handlers": "from outbox_inbox.aggregates import Repository\n",
    }
    (tmp_path / "shop").mkdir()
    for name, text in modules.items():
        (tmp_path / "shop" / f"{name}.py").write_text(text)
    command = [sys.executable, "manage.py", "check"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DJANGO_SETTINGS_MODULE": "mysite.settings",
    }
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True
    )
    assert ran.returncode == 1
    assert "(outbox_inbox.E023) The apps shop are contexts" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_example():
    """The example project passes all checks."""
    assert apps.is_installed("context_a")
    assert check_contexts(None) == []


def test_hints(packages):
    """Each message says the way out, and which context it is about."""
    (message,) = both(packages, shop={"handlers": ""})
    assert message.hint.startswith("Mark a function with @handles or @inbound")
    assert message.obj == "shop"


def test_of_one_app(packages):
    """A check that is asked for one app leaves the others out."""
    assert [each.obj for each in both(packages, {"acl": ""})] == ["billing"]
    assert check_contexts([apps.get_app_config("shop")]) == []


def test_by_the_command(packages):
    """`manage.py check` fails when a check finds an error."""
    packages.context("billing", **PUBLISHES)
    packages.install()
    with pytest.raises(SystemCheckError, match="E004"):
        call_command("check", tags=["outbox_inbox"])


# ------------------------------------------------------------------------------------ settings


def test_e013_settings(packages):
    """Wrong settings are reported by the check, each mistake by itself."""
    packages.context("shop")
    assert ids(packages, OUTBOX_INBOX={"BATCH_SIZE": 0, "MAX_HOPS": 0}) == ["E013", "E013"]


def test_e013_without_contexts(packages):
    """They are reported in a project without contexts as well."""
    assert ids(packages, OUTBOX_INBOX={"BATCH_SIZE": 0}) == ["E013"]


@pytest.mark.parametrize("backend", ["nowhere.Bus", "decimal.Decimal"])
def test_e013_transport(packages, backend):
    """A backend that is not a transport is reported before the first message is published."""
    packages.context("shop")
    transports = {"TRANSPORTS": {"default": {"BACKEND": backend}}}
    assert backend in single("E013", run(packages, OUTBOX_INBOX=transports)).msg


def test_e012_ids_forgotten_too_soon(packages):
    """A message that comes again after its id was forgotten would be handled twice."""
    packages.context("shop")
    entry = {"LOCATION": "redis://localhost", "OPTIONS": {"MAX_AGE": timedelta(days=30)}}
    message = single("E012", run(packages, OUTBOX_INBOX={"TRANSPORTS": {"default": entry}}))
    assert "redeliver a message for 30 days" in message.msg


def test_e012_ids_remembered_for_long(packages):
    """What the defaults say fits."""
    packages.context("shop")
    assert ids(packages, OUTBOX_INBOX={"TRANSPORTS": {"default": "redis://localhost"}}) == []


def test_e013_package_that_is_not_installed(packages, monkeypatch):
    """A transport whose package is missing says which extra brings it."""
    for name in [name for name in sys.modules if name.startswith("outbox_inbox.transports.redis")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ["redis", *(name for name in sys.modules if name.startswith("redis."))]:
        monkeypatch.setitem(sys.modules, name, None)
    packages.context("shop")
    found = run(packages, OUTBOX_INBOX={"TRANSPORTS": {"default": "rediss://localhost"}})
    assert "outbox_inbox[redis]" in single("E013", found).msg


def test_e013_unknown_label(packages):
    """An override of a context that does not exist has no effect, and is reported."""
    packages.context("shop")
    found = run(packages, OUTBOX_INBOX={"CONTEXTS": {"shopp": {"database": "other"}}})
    assert "did you mean 'shop'?" in single("E013", found).msg


KEYS = {"keys": {"2026-11": "a secret that is long enough to be one"}}


def signatures(**contexts):
    """Return settings with a broker and these entries of CONTEXTS."""
    return {"OUTBOX_INBOX": {**REMOTE, "CONTEXTS": contexts}}


def test_signatures_that_fit(packages):
    """One signs, the other verifies: both pass."""
    fits = signatures(billing={"signing": KEYS}, shop={"verifying": {"billing": KEYS}})
    assert both(packages, **fits) == []


@pytest.mark.parametrize("entry", [{}, {"required": True}, {"keys": {}}], ids=str)
def test_signatures_are_required_without_keys(packages, entry):
    """Everything from that source would be quarantined."""
    found = both(packages, **signatures(shop={"verifying": {"billing": entry}}))
    message = single("E017", found)
    assert message.obj == "shop"
    assert "requires signatures, but it has no keys" in message.msg


def test_a_source_to_be_verified_that_nothing_comes_from(packages):
    """A misspelt label would leave the messages unverified."""
    found = both(packages, **signatures(shop={"verifying": {"biling": KEYS}}))
    message = single("E017", found)
    assert message.obj == "shop"
    assert "did you mean 'billing'?" in message.msg


@pytest.mark.parametrize(
    ("label", "entry"), [("billing", {"signing": KEYS}), ("shop", {"verifying": {"billing": KEYS}})]
)
def test_signatures_on_a_transport_that_makes_none(packages, label, entry):
    """``local://`` neither signs nor verifies."""
    found = both(packages, OUTBOX_INBOX={"CONTEXTS": {label: entry}})
    assert single("W008", found).obj == label
