"""The commands that simulate customers and the warehouse: `place_orders` and `demo`."""

import csv
import json
import os
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict
from decimal import ROUND_HALF_UP, Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from context_a.models import OrderSummary
from context_a.services import cancel_order, place_order
from context_b.models import CountryBoard, Shipment
from outbox_inbox.contexts import get_context
from outbox_inbox.models import Delivery, InboxMessage, OutboxMessage, Queue, StoredEvent
from outbox_inbox.operations import Drained, Selection, pause, repartition, retry
from project.simulation import business_day
from project.simulation.generated_orders import generate_orders
from tests.support.example import FILES, in_all, printed, refusing_shipment, run

pytestmark = pytest.mark.django_db(databases="__all__")

NORTHWIND = Path(__file__).parents[3] / "shared" / "data"


def stored() -> dict[str, int]:
    """How many rows there are of everything that is ever stored."""
    models = (StoredEvent, OutboxMessage, InboxMessage, Delivery, OrderSummary, Shipment)
    return {model.__name__: model._default_manager.count() for model in models}


def spoiled(folder: Path, good: str, bad: str) -> tuple[Path, Path]:
    """Two files of which the lines have one text replaced."""
    lines = folder / "lines.csv"
    lines.write_text(FILES[1].read_text(encoding="utf-8").replace(good, bad), encoding="utf-8")
    return FILES[0], lines


# What it does


STREAM = pytest.param("stream", marks=[pytest.mark.sqlite, pytest.mark.postgres])


@pytest.mark.parametrize("source", ["outbox", STREAM])
def test_every_hop_is_reported(source: str, settings: Any) -> None:
    """From the use case to the read models of both contexts; ordering may have no outbox."""
    settings.OUTBOX_INBOX = {"CONTEXTS": {"ordering": {"source": source}}}
    repartition()
    assert in_all(run("place_orders", *FILES)) == {
        "ordering: orders placed": 5,
        f"ordering: own events, {source} to own inbox": 9,
        "ordering: contracts published": 5,
        "shipping: contracts received": 5,
        "shipping: deliveries done": 19,
        "shipping: shipments booked": 5,
        "shipping: shipments called off": 0,
        "shipping: shipments dispatched": 4,
        "shipping: own events, outbox to own inbox": 4,
        "shipping: contracts published": 4,
        "ordering: contracts received": 4,
        "ordering: deliveries done": 31,
        "ordering: orders cancelled": 0,
        "ordering: orders shipped": 4,
        "ordering: orders open": 1,
    }


def test_the_board_has_the_sums_of_the_files() -> None:
    """Orders and revenue per country, the highest revenue first, and nothing lost to rounding."""
    assert run("place_orders", *FILES)["board"] == [
        {"country": "Germany", "orders": 2, "revenue": "761.10"},
        {"country": "USA", "orders": 1, "revenue": "130.80"},
        {"country": "Sweden", "orders": 1, "revenue": "66.43"},
        {"country": "Norway", "orders": 1, "revenue": "64.83"},
    ]


def test_the_queues_are_empty_afterwards() -> None:
    """Nothing is left over but the time-out of the order that is open, and nothing is dead."""
    queues = run("place_orders", *FILES)["queues"]
    assert sum(queue.pop("scheduled") for queue in queues) == 1
    counts = [count for queue in queues for count in queue.values() if isinstance(count, int)]
    assert set(counts) == {0}


def test_the_text_report_names_hops_board_and_queues() -> None:
    """A person gets the same figures as a table."""
    lines = [" ".join(line.split()) for line in printed("place_orders", *FILES).splitlines()]
    assert {
        "shipping shipments booked 5 5",
        "ordering orders open 1 1",
        "Germany 2 761.10",
        "4 countries 5 1023.16",
        "shipping inbox 0 ready, 0 backing off, 0 waiting, 0 dead",
        "All is well: nothing is dead, and nothing is left over.",
    } <= set(lines)


# Again, and after a crash


def test_a_second_run_stores_nothing() -> None:
    """The order ids are the idempotency keys: no event, no message, no row more."""
    run("place_orders", *FILES)
    before = stored()
    run("place_orders", *FILES)
    assert stored() == before


def test_a_second_run_says_that_nothing_changed() -> None:
    """The column of this run is zero from top to bottom."""
    run("place_orders", *FILES)
    report = run("place_orders", *FILES)
    changed = [report["placed"], report["dispatched"], *(hop["this_run"] for hop in report["hops"])]
    assert set(changed) == {0}


@pytest.mark.parametrize("crash_at", ["place_order", "drain", "dispatch_shipment"])
def test_a_run_that_was_cut_short_is_completed_by_the_next(
    crash_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a run ends, the same command again leads to the same end."""
    real, calls = getattr(business_day, crash_at), iter(range(100))

    def crash(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(business_day, crash_at, crash)
    with pytest.raises(KeyboardInterrupt):
        run("place_orders", *FILES)
    monkeypatch.undo()
    report = run("place_orders", *FILES)
    assert (report["revenue"], in_all(report)["ordering: orders shipped"]) == ("1023.16", 4)


def test_a_signal_ends_a_run_between_two_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM is obeyed: what is begun is finished, nothing else is begun, and it says so."""

    def place(*args: Any, **kwargs: Any) -> bool:
        os.kill(os.getpid(), signal.SIGTERM)
        return place_order(*args, **kwargs)

    monkeypatch.setattr(business_day, "place_order", place)
    with pytest.raises(CommandError, match="stopped by a signal"):
        run("place_orders", *FILES)
    assert StoredEvent.objects.count() == 1


def test_messages_left_by_an_earlier_run_are_taken_along() -> None:
    """What was recorded and not relayed is handled by the next run."""
    run("place_orders", *FILES)
    cancel_order("1003")
    assert run("place_orders", *FILES)["revenue"] == "956.73"


# Wrong input


def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path) -> None:
    """The error names file, line and column, and the exit code is 1."""
    with pytest.raises(CommandError) as refused:
        run("place_orders", *spoiled(tmp_path, "4.35", "four"))
    assert (refused.value.returncode, str(refused.value)) == (
        1,
        f"{tmp_path}/lines.csv, line 9, column unit_price: "
        "'four' is not a number from 0, such as 0.25",
    )


def test_nothing_of_a_wrong_file_is_stored(tmp_path: Path) -> None:
    """A mistake in the last line of the lines keeps the first order from being placed."""
    with pytest.raises(CommandError):
        run("place_orders", *spoiled(tmp_path, "4.35", "four"))
    assert set(stored().values()) == {0}


def test_a_long_list_of_mistakes_is_cut(tmp_path: Path) -> None:
    """Twenty mistakes are shown, the others are counted."""
    path = tmp_path / "lines.csv"
    path.write_text("order_id,product,unit_price,quantity,discount\n" + "1001,x,y,1,0\n" * 30)
    with pytest.raises(CommandError) as refused:
        run("place_orders", FILES[0], path)
    assert str(refused.value).splitlines()[20:] == ["... and 14 more"]


def test_an_order_that_contradicts_an_earlier_one_is_reported(tmp_path: Path) -> None:
    """An order that was placed before with other content is told, with exit code 3."""
    run("place_orders", *FILES)
    with pytest.raises(CommandError, match="order 1005 has been placed before") as wrong:
        run("place_orders", *spoiled(tmp_path, "4.35", "4.53"))
    assert wrong.value.returncode == 3


# When something fails


@pytest.fixture
def no_room() -> Iterator[Callable[[], bool]]:
    """Shipment 1002 cannot be booked; the fixture's value mends it."""
    yield from refusing_shipment("1002")


def test_a_dead_delivery_is_reported(no_room: Any) -> None:
    """What is dead, where, and what to do about it; exit code 3."""
    with pytest.raises(CommandError, match="1 dead in the inbox of shipping") as wrong:
        run("place_orders", *FILES)
    assert wrong.value.returncode == 3


def test_the_report_is_printed_even_when_something_is_dead(no_room: Any) -> None:
    """The other orders are done, and the report says so."""
    out = StringIO()
    with pytest.raises(CommandError):
        call_command("place_orders", *map(str, FILES), format="json", stdout=out, stderr=StringIO())
    assert in_all(json.loads(out.getvalue()))["ordering: orders shipped"] == 3


def test_after_a_retry_the_same_command_completes_the_day(no_room: Any) -> None:
    """What was parked is done once the reason is gone."""
    with pytest.raises(CommandError):
        run("place_orders", *FILES)
    no_room()
    retry(Selection(context="shipping"))
    assert in_all(run("place_orders", *FILES))["ordering: orders shipped"] == 4


def test_what_a_paused_queue_holds_back_is_reported() -> None:
    """Messages that no mover may move are left over, and not called done."""
    pause(get_context("shipping"), Queue.INBOX)
    with pytest.raises(CommandError, match="not finished in the inbox of shipping"):
        run("place_orders", *FILES)


def test_a_transport_out_of_reach_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage is no success."""
    silent = [Drained(context="ordering", unreachable="no answer")]
    monkeypatch.setattr(business_day, "drain", lambda **_: silent)
    with pytest.raises(CommandError, match="the transport of ordering: no answer"):
        run("place_orders", *FILES)


# Orders out of nothing


def test_the_demo_checks_its_own_sums() -> None:
    """Placed minus cancelled is what the board has: as many orders, and their revenue."""
    orders = [order for order in generate_orders(60, 7) if not order.cancelled]
    report = run("demo", orders=60, seed=7)
    assert (report["revenue"], sum(row["orders"] for row in report["board"])) == (
        str(sum(order.total for order in orders)),
        len(orders),
    )


def test_the_demo_finds_a_wrong_board() -> None:
    """Exit code 3 when the board is not the sum of the orders."""
    CountryBoard.objects.create(country="Atlantis", orders=1, revenue=1)
    with pytest.raises(CommandError, match="Atlantis") as wrong:
        run("demo", orders=3, seed=7)
    assert wrong.value.returncode == 3


def test_the_demo_finds_a_wrong_order() -> None:
    """Exit code 3 when an order does not stand where it should."""
    run("demo", orders=3, seed=7)
    Shipment.objects.filter(reference="demo-7-2").update(dispatched_on="1999-12-31")
    with pytest.raises(CommandError, match="order demo-7-2 should be") as wrong:
        run("demo", orders=3, seed=7)
    assert wrong.value.returncode == 3


def test_the_demo_with_a_seed_is_done_once() -> None:
    """The same seed gives the same orders, which are there already."""
    run("demo", orders=25, seed=7)
    before = stored()
    run("demo", orders=25, seed=7)
    assert stored() == before


def test_the_demo_without_a_seed_brings_new_orders() -> None:
    """Each run adds as many orders as it was asked for."""
    run("demo", orders=4)
    run("demo", orders=4)
    assert OrderSummary.objects.count() == 8


def test_more_orders_of_a_seed_begin_with_the_fewer() -> None:
    """A larger number adds orders, and leaves those that were made before as they were."""
    assert generate_orders(40, 7)[:25] == generate_orders(25, 7)


def test_one_in_twenty_is_cancelled() -> None:
    """A demo always shows cancellations, and never of an order that has left."""
    cancelled = [order for order in generate_orders(100, 7) if order.cancelled]
    assert [order.shipped_on for order in cancelled] == [None] * 5


@pytest.mark.parametrize("orders", ["0", "-1", "many", "100001"])
def test_a_number_of_orders_that_makes_no_sense_is_refused(orders: str) -> None:
    """Nothing is made of it."""
    with pytest.raises(CommandError, match="--orders"):
        call_command("demo", f"--orders={orders}")


# Many orders


def reckon(orders: Path, lines: Path) -> tuple[int, int, dict[str, Decimal]]:
    """Count orders and shipped orders, and sum up the countries, with nothing of the project."""
    totals: dict[str, Decimal] = defaultdict(Decimal)
    with lines.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            price = Decimal(row["unit_price"]) * int(row["quantity"])
            totals[row["order_id"]] += price * (1 - Decimal(row["discount"]))
    with orders.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    revenue: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        total = totals[row["order_id"]].quantize(Decimal("0.01"), ROUND_HALF_UP)
        revenue[row["country"]] += total
    return len(rows), sum(bool(row["shipped_on"]) for row in rows), dict(revenue)


def write_made_orders(folder: Path, count: int) -> tuple[Path, Path]:
    """Write made orders as the two files that `place_orders` reads."""
    orders, lines = folder / "orders.csv", folder / "lines.csv"
    made = generate_orders(count, 1)
    plain = ["order_id", "customer", "country", "ordered_on", "required_on", "shipped_on"]
    with orders.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(plain)
        writer.writerows([getattr(order, name) for name in plain] for order in made)
    with lines.open("w", encoding="utf-8", newline="") as file:
        rows = [
            {"order_id": order.order_id, **asdict(line)} for order in made for line in order.lines
        ]
        writer_of_lines = csv.DictWriter(file, list(rows[0]))
        writer_of_lines.writeheader()
        writer_of_lines.writerows(rows)
    return orders, lines


def test_the_figures_of_many_orders_are_those_of_the_files(tmp_path: Path) -> None:
    """Real orders where they are at hand, made ones elsewhere: every sum is that of the files."""
    real = NORTHWIND / "northwind_orders.csv", NORTHWIND / "northwind_order_lines.csv"
    files = real if all(map(Path.is_file, real)) else write_made_orders(tmp_path, 300)
    count, shipped, revenue = reckon(*files)
    report = run("place_orders", *files)
    hops = in_all(report)
    assert {
        "orders": hops["ordering: orders placed"],
        "shipments": hops["shipping: shipments booked"],
        "dispatched": hops["shipping: shipments dispatched"],
        "shipped": hops["ordering: orders shipped"],
        "open": hops["ordering: orders open"],
        "revenue": {row["country"]: Decimal(row["revenue"]) for row in report["board"]},
    } == {
        "orders": count,
        "shipments": count,
        "dispatched": shipped,
        "shipped": shipped,
        "open": count - shipped,
        "revenue": revenue,
    }
