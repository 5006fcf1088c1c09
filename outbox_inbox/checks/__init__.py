"""System checks: each mistake in a declaration that can be seen at start, with a way out.

======  =========================================================================================
E001    contract without a name that is fit for one
E002    translates or handles a contract it does not subscribe to, or another's domain event
E003    two contexts publish one name and version
E004    publishes a contract that nothing produces
E005    subscribes to a contract that this project does not publish, over a local transport
E006    the context's models and its queues are on different databases
E007    a subscriber's view does not fit the contract that another context publishes
E008    a handler's or translator's signature does not fit
E009    version gap without upcaster
E010    the stream is to be followed on a database that cannot serve it
E011    two consumers, or two projections, with one name
E012    deduplication window not longer than the time in which a transport may redeliver
E013    a setting or a ContextConfig is wrong, so that the contexts cannot be read, or so that a
        transport cannot connect (a file that its options name is missing)
E014    two domain events of a context with one stored name
E015    an event has a field of a type that cannot be stored
E016    the name of a contract does not begin with the label of its context
E017    signatures are required that cannot be verified
E018    a projection does not name a model
E019    functions of one consumer contradict each other
E020    a database of contexts with AUTOCOMMIT False
E021    MySQL or MariaDB over a connection whose character set does not have every character
E022    MySQL or MariaDB with a sql_mode in which the statements of the queues do not work
E023    contexts without ``outbox_inbox`` in INSTALLED_APPS
W001    subscribed, but not handled
W002    SQLite without IMMEDIATE and WAL
W003    Celery wake-up without a beat entry
W004    a marked function outside ``modules``
W005    pickle among Celery's accepted content
W006    foreign key from one context's model to another's, or between two databases
W007    the server of a transport is not set up as it should be (``check --deploy`` only)
W008    signatures over a transport that does not sign
W009    MySQL or MariaDB with another isolation level than READ COMMITTED
W010    publishes a contract, and no producer of it can be seen
W011    unfinished deliveries of a consumer that the code does not have (``check --database`` only)
W012    the tables lack what the migrations make (``check --database`` only)
W013    a source or a number of partitions of the settings is not in force (``check --database`` only)
W014    a context has unfinished rows on a database that is not its own (``check --database`` only)
W015    an inbound translator returns a domain event that has no consumer
======  =========================================================================================

E021 and E022 are found in OPTIONS; ``check --database`` asks the server as well. All have the tag
``outbox_inbox`` and are silenced by ``outbox_inbox.<id>`` in SILENCED_SYSTEM_CHECKS. In a project without
contexts only E013 and W012 can be found.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage

from outbox_inbox.conf import settings
from outbox_inbox.conf.section import did_you_mean, shown
from outbox_inbox.contexts import Context, contexts
from outbox_inbox.exceptions import SettingsError

from . import consumers, contracts, deployment, foreign_keys, subscriptions, translations, views
from .deployment import check_servers as check_servers
from .messages import error

CHECKS: tuple[Callable[[Context], Iterable[CheckMessage]], ...] = (
    contracts.check_fields,
    contracts.check_names,
    contracts.check_owners,
    contracts.check_publishers,
    contracts.check_producers,
    contracts.check_subscriptions,
    contracts.check_versions,
    views.check_views,
    contracts.check_stored_names,
    consumers.check_consumed,
    consumers.check_signatures,
    consumers.check_consumer_names,
    consumers.check_groups,
    translations.check_translated,
    consumers.check_state,
    consumers.check_modules,
    deployment.check_databases,
    foreign_keys.check_foreign_keys,
    deployment.check_verifying,
    deployment.check_signing,
    subscriptions.check_source,
    subscriptions.check_read_models,
)


def check_contexts(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Run all checks of this package on the contexts among ``app_configs``, or on all."""
    try:
        overridden, every = settings().contexts, contexts()
    except SettingsError as problem:
        return [
            error("E013", text, "Correct this first; the other checks need it.")
            for text in str(problem).splitlines()
        ]
    asked = None if app_configs is None else {config.label for config in app_configs}
    found = [each for each in every if asked is None or each.label in asked]
    messages = [*_unknown_labels(overridden, every), *deployment.check_project()]
    for context in found:
        for message in (message for check in CHECKS for message in check(context)):
            message.obj = context.label
            messages.append(message)
    return messages


def _unknown_labels(overridden: Iterable[str], every: Sequence[Context]) -> Iterator[CheckMessage]:
    labels = {context.label for context in every}
    for label in [each for each in overridden if each not in labels]:
        yield error(
            "E013",
            f'OUTBOX_INBOX["CONTEXTS"] names {shown(label)}, which is not a context'
            f"{did_you_mean(label, labels)}",
            "Correct the label, or remove the entry; it has no effect.",
        )
