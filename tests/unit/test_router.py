"""The router of the package: which database the tables of an app are on."""

import importlib
from textwrap import dedent
from typing import Any

import pytest
from django.apps import apps
from django.db import router
from django.test import override_settings

from outbox_inbox.contexts import ContextRouter
from tests.support.packages import Packages

MODEL = """
    from django.db import models

    class Thing(models.Model):
        pass
"""
ROUTED: dict[str, Any] = {"DATABASE_ROUTERS": ["outbox_inbox.contexts.ContextRouter"]}


def apart(*labels: str) -> dict[str, Any]:
    """Return settings that put contexts on the database `other`."""
    contexts = {label: {"database": "other"} for label in labels}
    return {**ROUTED, "OUTBOX_INBOX": {"CONTEXTS": contexts}}


def write_inside(packages: Packages, outer: str, label: str, base: str) -> str:
    """Write an app with a model into a package; return its name."""
    name, folder = f"{outer}.{label}", packages.folder / outer / label
    folder.mkdir()
    module, _, cls = base.rpartition(".")
    config = f"from {module} import {cls}\n\nclass Config({cls}):\n    name = {name!r}\n    label = {label!r}\n"
    for file, text in {"__init__": "", "apps": config, "models": dedent(MODEL)}.items():
        (folder / f"{file}.py").write_text(text)
    importlib.invalidate_caches()
    return name


def places(model: Any) -> tuple[str, str]:
    """Return where a model is read and written."""
    return router.db_for_read(model), router.db_for_write(model)


def test_the_models_of_a_context_are_where_it_lives(packages):
    """They are read from and written to the database of the context."""
    packages.context("billing", models=MODEL)
    packages.install(**apart("billing"))
    assert places(apps.get_model("billing", "Thing")) == ("other", "other")


def test_a_context_without_a_database_of_its_own_is_on_default(packages):
    """What its ContextConfig says counts, where the settings say nothing."""
    packages.context("billing", models=MODEL)
    packages.install(**ROUTED)
    assert places(apps.get_model("billing", "Thing")) == ("default", "default")


def test_a_plain_app_within_a_context_goes_with_it(packages):
    """Its tables are on the context's database: its package is inside of the context's."""
    outer = packages.context("billing")
    packages.install(
        outer,
        write_inside(packages, outer, "printing", "django.apps.AppConfig"),
        **apart("billing"),
    )
    assert places(apps.get_model("printing", "Thing")) == ("other", "other")
    router = ContextRouter()
    assert [router.allow_migrate(db, "printing") for db in ("other", "default")] == [True, False]


def test_a_context_within_a_context_is_routed_by_itself(packages):
    """The innermost context decides, and not the one around it."""
    outer = packages.context("billing", models=MODEL)
    inner = write_inside(packages, outer, "dunning", "outbox_inbox.contexts.ContextConfig")
    packages.install(outer, inner, **apart("dunning"))
    assert places(apps.get_model("dunning", "Thing")) == ("other", "other")
    assert places(apps.get_model("billing", "Thing")) == ("default", "default")


def test_a_proxy_is_where_its_table_is(packages):
    """A context's proxy of a model of another app has no table of its own."""
    proxy = """
        from django.contrib.auth.models import Group

        class Team(Group):
            class Meta:
                proxy = True
    """
    packages.context("billing", models=proxy)
    packages.install(**apart("billing"))
    assert places(apps.get_model("billing", "Team")) == ("default", "default")


@pytest.mark.parametrize(
    ("database", "label", "allowed"),
    [
        ("other", "billing", True),
        ("default", "billing", False),
        ("other", "sales", False),
        ("default", "sales", True),
        ("other", "outbox_inbox", True),
        ("default", "outbox_inbox", True),
        ("other", "auth", False),
        ("default", "auth", None),
    ],
)
def test_tables_are_made_where_they_are_used(packages, database, label, allowed):
    """A context's database gets its tables and the queues, and nothing else; `default` gets the rest."""
    packages.context("billing")
    packages.context("sales")
    packages.install(**apart("billing"))
    assert ContextRouter().allow_migrate(database, label) is allowed


@pytest.mark.parametrize(
    ("label", "allowed"), [("billing", False), ("outbox_inbox", False), ("auth", None)]
)
def test_a_database_without_contexts_gets_no_queues(packages, label, allowed):
    """It is a matter of other routers, such as a database of reports."""
    packages.context("billing")
    packages.install(**ROUTED)
    assert ContextRouter().allow_migrate("other", label) is allowed


def test_a_context_that_is_elsewhere_is_not_routed(packages):
    """This process does not have the app, so the router has no opinion of its tables."""
    packages.context("billing")
    packages.install(**ROUTED)
    assert ContextRouter().allow_migrate("default", "sales") is None


def test_it_can_be_asked_while_models_are_imported(packages):
    """A project may import it at the top of a module, before any AppConfig is ready."""
    asks = """
    from outbox_inbox.contexts import ContextRouter

    PLACE = ContextRouter().db_for_write(Thing)
    """
    name = packages.context("billing", 'database = "other"', models=MODEL + asks)
    packages.install(**ROUTED)
    assert importlib.import_module(f"{name}.models").PLACE == "other"


def test_it_follows_the_settings(packages):
    """A test that puts a context elsewhere is not answered with what was read before."""
    packages.context("billing", models=MODEL)
    packages.install(**ROUTED)
    model = apps.get_model("billing", "Thing")
    assert router.db_for_write(model) == "default"
    with override_settings(**apart("billing")):
        assert router.db_for_write(model) == "other"
    assert router.db_for_write(model) == "default"


def test_the_checks_agree_with_it(packages):
    """E006 and W006 find nothing to say of a context that the router puts on another database."""
    from django.core.checks import run_checks

    packages.context("billing", models=MODEL)
    packages.install(**apart("billing"))
    found = {each.id for each in run_checks(tags=["outbox_inbox"])}
    assert not found & {"outbox_inbox.E006", "outbox_inbox.W006"}
