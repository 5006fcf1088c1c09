"""Checks of databases, Celery and signatures: of how the project around the contexts is set up."""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage
from django.db import connections, router

from outbox_inbox.conf import SCHEMES, settings
from outbox_inbox.conf.section import suggestion
from outbox_inbox.contexts import Context, contexts
from outbox_inbox.contexts.declaring import models_of
from outbox_inbox.exceptions import SettingsError
from outbox_inbox.queues import wakeup
from outbox_inbox.transports import transport, transport_problems

from . import databases
from .messages import error, warning

_PICKLE = {"pickle", "python-serialize", "application/x-python-serialize"}


def check_project() -> Iterator[CheckMessage]:
    """Run the checks that concern the project and not one of its contexts, if it has any."""
    if contexts():
        for alias in sorted({context.database for context in contexts()}):
            yield from _check_sqlite(alias)
            yield from databases.check_isolation(alias)
            yield from databases.check_autocommit(alias)
            yield from databases.check_options(alias)
        for alias in sorted({context.transport for context in contexts()}):
            yield from _check_transport(alias)
        yield from _check_wake_up()
        yield from _check_beat()
        yield from _check_pickle()


def check_servers(**_: Any) -> Iterator[CheckMessage]:
    """W007: a transport's server lacks something; it is connected to, so for ``--deploy`` only."""
    # A transport that cannot be made is reported by the other checks.
    with suppress(SettingsError):
        for alias, problem in transport_problems():
            yield warning(
                "W007",
                f"The transport {alias!r} of contexts: {problem}.",
                "The section of this transport in docs/transports.md says what its server needs.",
            )


def _check_transport(alias: str) -> Iterator[CheckMessage]:
    """E013, E012: a transport cannot be made, or redelivers after an id has been forgotten."""
    try:
        made = transport(alias)
    except SettingsError as problem:
        hint = "Correct BACKEND, or install the package that it comes from."
        yield error("E013", f"{problem}.", hint)
        return
    for found in made.local_problems():
        yield error(
            "E013",
            f"The transport {alias!r} cannot connect: {found}.",
            "Correct the option, or make the file available to this process. Until then messages wait "
            "in the outbox.",
        )
    redelivers_for = made.redelivers_for
    remembered = settings().deduplication
    if redelivers_for is not None and remembered <= redelivers_for:
        yield error(
            "E012",
            f"The transport {alias!r} may redeliver a message for {redelivers_for}, but its id is "
            f"forgotten after {remembered}: the message would be handled twice.",
            'Make OUTBOX_INBOX["DEDUPLICATION"] longer, or the option MAX_AGE of the transport '
            "shorter.",
        )


def _check_wake_up() -> Iterator[CheckMessage]:
    """E013: no wake-up would ever arrive, and every message would wait for the next poll."""
    if problem := wakeup.problem():
        yield error(
            "E013",
            f"{problem}.",
            'Set WAKE_UP to "celery", or to None: then run_contexts finds work by polling.',
        )


def _check_sqlite(alias: str) -> Iterator[CheckMessage]:
    """W002: two writers on SQLite get "database is locked" instead of waiting."""
    connection = connections[alias]
    if connection.vendor != "sqlite":
        return
    options = connection.settings_dict.get("OPTIONS", {})
    missing = []
    if str(options.get("transaction_mode", "")).upper() not in ("IMMEDIATE", "EXCLUSIVE"):
        missing.append('"transaction_mode": "IMMEDIATE"')
    commands = str(options.get("init_command", "")).lower().replace(" ", "").replace("'", "")
    name = str(connection.settings_dict["NAME"])
    # A database in memory has no journal, and one connection.
    if "journal_mode=wal" not in commands and not re.search(":memory:|mode=memory", name):
        missing.append('"init_command": "PRAGMA journal_mode=WAL"')
    if missing:
        yield warning(
            "W002",
            f"The SQLite database {alias!r} has queues of contexts, but its OPTIONS lack "
            f"{' and '.join(missing)}.",
            f'Add this to DATABASES["{alias}"]["OPTIONS"]: without it, two processes that write '
            'at once get "database is locked".',
        )


def _check_beat() -> Iterator[CheckMessage]:
    """W003: without beat, a message whose wake-up is lost waits for the next message."""
    # django-celery-beat keeps its entries in the database, which a check does not read.
    if settings().wake_up != "celery" or apps.is_installed("django_celery_beat"):
        return
    needed = {"outbox_inbox.relay_outbox", "outbox_inbox.dispatch_inbox"}
    transports = settings().transports
    if any(transports[each.transport].backend != SCHEMES["local"] for each in contexts()):
        needed.add("outbox_inbox.receive_messages")
    tables = [each for each in _celery_values("beat_schedule") if isinstance(each, Mapping)]
    entries = [each for table in tables for each in table.values() if isinstance(each, Mapping)]
    found = {entry.get("task") for entry in entries}
    if missing := sorted(needed - found):
        yield warning(
            "W003",
            'OUTBOX_INBOX["WAKE_UP"] is "celery", but no beat entry runs '
            f"{', '.join(missing)}: after a lost wake-up, or when a retry is due, messages would "
            "wait for the next message.",
            "Add outbox_inbox.tasks.beat_schedule() to CELERY_BEAT_SCHEDULE, and import the "
            "Celery app in the __init__.py of the project.",
        )


def _check_pickle() -> Iterator[CheckMessage]:
    """W005: write access to the broker would be enough to run code in the workers."""
    for accepted in _celery_values("accept_content"):
        values = {accepted} if isinstance(accepted, str) else set(accepted or ())
        if values & _PICKLE:
            yield warning(
                "W005",
                "Celery accepts pickled content: write access to the broker is enough to run code "
                "in its workers.",
                'Set CELERY_ACCEPT_CONTENT = ["json"]: the tasks of outbox_inbox need JSON only.',
            )
            return


def _celery_values(name: str) -> Iterator[Any]:
    """Yield the values of an option in Django's settings and the Celery apps of this process."""
    yield getattr(django_settings, f"CELERY_{name.upper()}", ())
    if "celery" in sys.modules:
        # Not celery.current_app: each thread has its own, and runserver checks in another thread.
        active = getattr(import_module("celery._state"), "_get_active_apps", tuple)
        for app in list(active()):
            app.finalize(auto=True)
            yield app.conf.get(name)


def check_databases(context: Context) -> Iterator[CheckMessage]:
    """E006: state and events are written to two databases, so they cannot be committed together."""
    managed = [model for model in models_of(context.label) if model._meta.managed]
    elsewhere = [
        f"{model._meta.label} ({router.db_for_write(model)})"
        for model in managed
        if router.db_for_write(model) != context.database
    ]
    if elsewhere:
        yield error(
            "E006",
            f"The queues are on the database {context.database!r}, but these models of the context "
            f"are written elsewhere: {', '.join(elsewhere)}.",
            "A transaction spans one database. Route the models to it, as "
            '"outbox_inbox.contexts.ContextRouter" in DATABASE_ROUTERS does, or change `database` of '
            'the ContextConfig or of OUTBOX_INBOX["CONTEXTS"].',
        )
    apart = (model for model in managed if not router.allow_migrate_model(context.database, model))
    tables = [] if elsewhere else [model._meta.label for model in apart]
    queues = apps.get_model("outbox_inbox", "OutboxMessage")
    if not router.allow_migrate_model(context.database, queues):
        tables.append("outbox_inbox")
    if tables:
        yield error(
            "E006",
            f"The context is on the database {context.database!r}, but the database routers do not "
            f"allow the tables of {', '.join(tables)} there.",
            f"Let allow_migrate() of your router allow them on {context.database!r}. Otherwise "
            "manage.py migrate skips them silently.",
        )


def check_verifying(context: Context) -> Iterator[CheckMessage]:
    """E017: signatures could not be verified as they are configured."""
    for source, verifying in context.verifying.items():
        where = f'OUTBOX_INBOX["CONTEXTS"]["{context.label}"]["verifying"]'
        if source not in context.sources:
            yield error(
                "E017",
                f"{where} names {source!r}, but the context does not subscribe to a contract of it"
                f"{suggestion(source, context.sources)}",
                "Correct the label, or remove the entry; it has no effect.",
            )
        elif verifying.required and not verifying.keys:
            yield error(
                "E017",
                f'{where}["{source}"] requires signatures, but it has no keys: every message from '
                f"{source!r} would be quarantined.",
                'Give "keys" the keys that the source signs with, or set "required" to False.',
            )


def check_signing(context: Context) -> Iterator[CheckMessage]:
    """W008: ``local://`` moves messages within the process, and does not sign them."""
    wanted = context.signing is not None or any(
        each.required for each in context.verifying.values()
    )
    if wanted and settings().transports[context.transport].backend == SCHEMES["local"]:
        yield warning(
            "W008",
            "The context has signatures configured, but its transport is local://, which neither "
            "signs nor verifies: messages never leave the process.",
            "Remove the keys, or use a transport that leads outside.",
        )
