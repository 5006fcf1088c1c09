"""The commands of the example: run with the orders of the test data, and one order that fails."""

import json
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.db.models.signals import pre_save

from context_b.models import Shipment
from outbox_inbox import PermanentError

DATA = Path(__file__).parent.parent / "data"
FILES = (DATA / "orders.csv", DATA / "order_lines.csv")


def run(command: str, *arguments: object, **options: object) -> dict[str, Any]:
    """Run a command; return what it printed on its standard output, which must be JSON alone."""
    report: dict[str, Any] = json.loads(printed(command, *arguments, format="json", **options))
    return report


def printed(command: str, *arguments: object, **options: object) -> str:
    """Run a command; return what it printed on its standard output."""
    out = StringIO()
    call_command(command, *map(str, arguments), stdout=out, stderr=StringIO(), **options)
    return out.getvalue()


def in_all(report: dict[str, Any]) -> dict[str, int]:
    """The last column of the hops."""
    return {f"{hop['context']}: {hop['name']}": hop["in_all"] for hop in report["hops"]}


def refusing_shipment(reference: str) -> Iterator[Callable[[], bool]]:
    """Let no shipment of a reference be booked; yield what mends it."""

    def refuse(instance: Shipment, **_: Any) -> None:
        if instance.reference == reference:
            raise PermanentError("no room")

    pre_save.connect(refuse, sender=Shipment)
    yield lambda: pre_save.disconnect(refuse, sender=Shipment)
    pre_save.disconnect(refuse, sender=Shipment)
