"""``manage.py show_contexts``."""

from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from outbox_inbox.conf import SCHEMES, settings
from outbox_inbox.contexts import Consumer, Context, contexts
from outbox_inbox.events import IntegrationEvent, meta
from outbox_inbox.management.arguments import add_format
from outbox_inbox.management.base import QueueCommand


class Command(QueueCommand):
    """Show the context map."""

    help = (
        "Show the contexts of the project: their databases and transports, the contracts that they "
        "publish and subscribe to, their consumers, and which contract goes from which context to "
        "which."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --format."""
        add_format(parser)

    def work(self, options: dict[str, Any]) -> None:
        """Print the contexts, and the arrows between them."""
        document = context_map(contexts())
        if options["format"] == "json":
            self.print_json(document)
        else:
            for line in _lines(document):
                self.stdout.write(line)


def context_map(found: Sequence[Context]) -> dict[str, Any]:
    """Return the contexts, the contracts that go between them, and those from and to the outside."""
    return {
        "contexts": [_context(each) for each in found],
        "arrows": [
            {"from": source.label, "to": target.label, **_contract(contract)}
            for source in found
            for contract in source.publishes
            for target in found
            if source.type_name(contract) in target.subscribed
        ],
        "outside": [*_from_outside(found), *_to_outside(found)],
    }


def _from_outside(found: Sequence[Context]) -> Iterator[dict[str, Any]]:
    """Yield the contracts that none of the contexts publishes; their names begin with the publisher."""
    published = {each.type_name(contract) for each in found for contract in each.publishes}
    for target in found:
        for contract in target.subscribes:
            name = target.type_name(contract)
            if name not in published:
                context = name.partition(".")[0]
                yield {"from": context, "to": target.label, **_contract(contract)}


def _to_outside(found: Sequence[Context]) -> Iterator[dict[str, Any]]:
    """Yield the contracts that a broker carries to unknown subscribers, if any."""
    subscribed = {name for each in found for name in each.subscribed}
    for source in found:
        if settings().transports[source.transport].backend == SCHEMES["local"]:
            continue
        for contract in source.publishes:
            if source.type_name(contract) not in subscribed:
                yield {"from": source.label, "to": None, **_contract(contract)}


def _context(each: Context) -> dict[str, Any]:
    return {
        "label": each.label,
        "app": each.app,
        "database": each.database,
        # Without its location, which may contain a password.
        "transport": {
            "alias": each.transport,
            "backend": settings().transports[each.transport].backend,
        },
        "source": each.source,
        "publishes": _contracts(each.publishes),
        "subscribes": _contracts(each.subscribes),
        "consumers": [_consumer(consumer) for consumer in each.consumers.values()],
    }


def _contracts(found: Iterable[type[IntegrationEvent]]) -> list[dict[str, Any]]:
    return [_contract(each) for each in found]


def _contract(contract: type[IntegrationEvent]) -> dict[str, Any]:
    return {"type": meta(contract).name, "version": meta(contract).version}


def _consumer(consumer: Consumer) -> dict[str, Any]:
    return {
        "name": consumer.name,
        "kind": consumer.kind,
        "events": list(consumer.events),
        "mode": consumer.mode,
    }


def _lines(document: dict[str, Any]) -> Iterator[str]:
    if not document["contexts"]:
        yield "The project has no contexts: no AppConfig is a subclass of ContextConfig."
    for each in document["contexts"]:
        backend = each["transport"]["backend"].rpartition(".")[2]
        yield (
            f"{each['label']} ({each['app']}): database {each['database']}, "
            f"transport {each['transport']['alias']} ({backend}), source {each['source']}"
        )
        for verb in ("publishes", "subscribes"):
            for contract in each[verb]:
                name = f"{contract['type']} v{contract['version']}"
                yield f"  {'subscribes to' if verb == 'subscribes' else verb} {name}"
        for consumer in each["consumers"]:
            kind = consumer["kind"]
            what = f"{kind} translator" if kind in ("outbound", "inbound") else kind
            events = ", ".join(consumer["events"])
            yield f"  {what} {consumer['name']} ({consumer['mode']}) <- {events}"
    for arrow in document["arrows"]:
        yield f"{arrow['from']} --> {arrow['to']}: {arrow['type']} v{arrow['version']}"
    labels = [each["label"] for each in document["contexts"]]
    for arrow in document["outside"]:
        source = arrow["from"] if arrow["from"] in labels else f"{arrow['from']} (elsewhere)"
        target = arrow["to"] or "(elsewhere)"
        yield f"{source} --> {target}: {arrow['type']} v{arrow['version']}"
