"""``manage.py show_contexts``: show the context map."""

from collections.abc import Iterator, Sequence
from typing import Any

from outbox_inbox.conf import SCHEMES, settings
from outbox_inbox.contexts import Consumer, Context, contexts
from outbox_inbox.events import IntegrationEvent, meta
from outbox_inbox.management.base import QueueCommand


class Command(QueueCommand):
    shared_options = ("--format",)
    help = (
        "Show the contexts of the project: their databases and transports, the contracts that they "
        "publish and subscribe to, their consumers, and which contract goes from which context to "
        "which."
    )

    def work(self, options: dict[str, Any]) -> None:
        document = context_map(contexts())
        self.print_document(document, _lines(document), options)


def context_map(found: Sequence[Context]) -> dict[str, Any]:
    """Return the contexts, the contracts that go between them, and those from and to the outside."""
    return {
        "contexts": [*map(_context, found)],
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
        if _backend(source) == SCHEMES["local"]:
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
        "transport": {"alias": each.transport, "backend": _backend(each)},
        "source": each.source,
        "publishes": [*map(_contract, each.publishes)],
        "subscribes": [*map(_contract, each.subscribes)],
        "consumers": [*map(_consumer, each.consumers.values())],
    }


def _backend(each: Context) -> str:
    return settings().transports[each.transport].backend


def _contract(contract: type[IntegrationEvent]) -> dict[str, Any]:
    return {"type": meta(contract).name, "version": meta(contract).version}


def _consumer(consumer: Consumer) -> dict[str, Any]:
    return {
        "name": consumer.name,
        "kind": consumer.kind,
        "events": list(consumer.events),
        "mode": consumer.mode,
        "functions": [each.path for each in consumer.functions],
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
        for name, verb in (("publishes", "publishes"), ("subscribes", "subscribes to")):
            for contract in each[name]:
                yield f"  {verb} {contract['type']} v{contract['version']}"
        for consumer in each["consumers"]:
            kind = consumer["kind"]
            what = f"{kind} translator" if kind in ("outbound", "inbound") else kind
            events = ", ".join(consumer["events"])
            yield f"  {what} {consumer['name']} ({consumer['mode']}) <- {events}"
            if not _is_named_after(consumer):
                yield f"    calls {', '.join(consumer['functions'])}"
    labels = [each["label"] for each in document["contexts"]]
    for arrow in (*document["arrows"], *document["outside"]):
        source = arrow["from"] if arrow["from"] in labels else f"{arrow['from']} (elsewhere)"
        target = arrow["to"] or "(elsewhere)"
        yield f"{source} --> {target}: {arrow['type']} v{arrow['version']}"


def _is_named_after(consumer: dict[str, Any]) -> bool:
    """Return whether the name of a consumer says which function it calls, and that it calls one."""
    path = consumer["name"].partition(".")[2]
    return [each.endswith(f".{path}") for each in consumer["functions"]] == [True]
