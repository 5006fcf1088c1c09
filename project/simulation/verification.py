"""Compares what the contexts show with the orders that were given to them.

The models are imported within the functions: a context may be deployed elsewhere.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from decimal import Decimal

from django.db import connections

from outbox_inbox.contexts import get_context
from outbox_inbox.operations import QueueStats
from outbox_inbox.queues.statements import checkpoints

from .customer_order import CustomerOrder
from .deployment import ORDERING


def unfinished_queues(queues: Sequence[QueueStats]) -> Iterator[str]:
    """Yield what a drain could not finish, and what to do about it."""
    for stats in queues:
        place = f"the {stats.queue} of {stats.context}"
        if stats.dead:
            yield (
                f"{_shown(stats, 'dead', stats.dead)} dead in {place}, {_shown(stats, 'waiting', stats.depth['waiting'])} waiting behind them: correct "
                f"the cause, run manage.py retry_messages --context {stats.context} --all, and this "
                "command again"
            )
        elif stats.unfinished:
            yield (
                f"{_shown(stats, 'unfinished', stats.unfinished)} not finished in {place}: see manage.py queue_stats, and run "
                "the same command again"
            )


def _shown(stats: QueueStats, figure: str, count: int) -> str:
    return f"more than {count}" if stats.is_minimum(figure) else str(count)


def wrong_orders(orders: Sequence[CustomerOrder]) -> Iterator[str]:
    """Yield the orders that one of the two contexts does not show as they should be."""
    from context_a.models import OrderSummary
    from context_b.models import Shipment

    ids = [order.order_id for order in orders]
    summaries = OrderSummary.objects.in_bulk(ids)
    shipments = Shipment.objects.in_bulk(ids, field_name="reference")
    for order in orders:
        summary, shipment = summaries.get(order.order_id), shipments.get(order.order_id)
        found = (
            summary and (summary.status, summary.total, summary.shipped_on),
            shipment and (shipment.status, shipment.dispatched_on),
        )
        wanted = _expected(order)
        if found != wanted:
            yield f"order {order.order_id} should be {wanted} and is {found}"


def wrong_countries() -> Iterator[str]:
    """Yield the countries whose board is not the sum of the orders without the cancelled ones."""
    from context_a.models import OrderSummary

    orders: Counter[str] = Counter()
    revenue: dict[str, Decimal] = defaultdict(Decimal)
    valid = OrderSummary.objects.exclude(status=OrderSummary.Status.CANCELLED)
    for country, total in valid.values_list("country", "total").iterator():
        orders[country] += 1
        revenue[country] += total
    for name, board in _boards():
        for country in sorted({*orders, *board}):
            wanted, found = (orders[country], revenue[country]), board.get(country, (0, Decimal(0)))
            if wanted != found:
                yield f"{name} has {found} for {country}, and the orders sum up to {wanted}"


Board = dict[str, tuple[int, Decimal]]


def _boards() -> Iterator[tuple[str, Board]]:
    """Yield shipping's board, and ordering's own where a database can serve its stream."""
    from context_a.models import CountryBoard as OwnBoard
    from context_b.models import CountryBoard

    yield (
        "the board",
        {row.country: (row.orders, row.revenue) for row in CountryBoard.objects.all()},
    )
    if checkpoints.supports_subscriptions(connections[get_context(ORDERING).database]):
        rows = OwnBoard.objects.all()
        yield "ordering's board", {row.country: (row.orders, row.revenue) for row in rows}


def _expected(order: CustomerOrder) -> tuple[object, object]:
    from context_a.models import OrderSummary
    from context_b.models import Shipment

    if order.cancelled:
        status, sent = OrderSummary.Status.CANCELLED, Shipment.Status.CALLED_OFF
    elif order.shipped_on:
        status, sent = OrderSummary.Status.SHIPPED, Shipment.Status.DISPATCHED
    else:
        status, sent = OrderSummary.Status.OPEN, Shipment.Status.BOOKED
    return (status, order.total, order.shipped_on), (sent, order.shipped_on)
