"""Rebuilding a read model from a long history: ordering's board of countries."""

import json
from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any, Final

from django.db import connection, transaction

from benchmarks.harness import Comparison, Reading, Work
from benchmarks.tables import STREAM, execute
from context_a.models import CountryBoard
from outbox_inbox.events import codec
from outbox_inbox.models import Checkpoint, table
from outbox_inbox.operations.rebuilding import find_read_model, rebuild
from outbox_inbox.queues.statements.dialects import dialect

_EVENTS: Final = 1_000_000
_PAGE: Final = 5_000
_COUNTRIES: Final = ("Sweden", "Germany", "USA", "France", "Brazil", "Norway", "Spain")

_filled = 0


def raw_rebuild(count: int) -> Work:
    """Return the work of psycopg and json, page by page, one upsert a country and page."""
    _fill(count)

    def work() -> int:
        CountryBoard.objects.all().delete()
        last = done = 0
        while rows := _raw_page(last):
            last, done = rows[-1][0], done + len(rows)
        return done

    return work


def our_rebuild(count: int) -> Work:
    """Return the work of ``rebuild_projection country_board``."""
    _fill(count)
    return lambda: rebuild(*find_read_model("country_board"), restart=True).events


def memory(count: int) -> float:
    """Return by how many megabytes the process grows during a rebuild."""
    import resource

    _fill(count)
    rebuild(*find_read_model("country_board"), restart=True, stop=_after(2))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rebuild(*find_read_model("country_board"))
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def _after(pages: int) -> Any:
    remaining = iter(range(pages))
    return lambda: next(remaining, None) is None


def _fill(count: int) -> None:
    """Fill ordering's stream once; both sides read the same events."""
    global _filled  # noqa: PLW0603
    if _filled == count:
        return
    execute("default", f"TRUNCATE {STREAM} RESTART IDENTITY CASCADE")
    Checkpoint.objects.all().delete()
    sql = dialect(connection)
    execute(
        "default",
        f"INSERT INTO {STREAM} (context, message_id, type, schema_version, key, payload, headers,"
        " correlation_id, hops, key_hash, kind, recorded_at, stream, version, in_outbox)"
        " SELECT 'ordering', lpad(to_hex(n), 32, '0')::uuid, 'ordering.Placed', 1, n::text,"
        " replace(replace(%s, '@order@', n::text), '@country@',"
        " (string_to_array(%s, ','))[n %% 7 + 1]), '{}', lpad(to_hex(n), 32, '0')::uuid, 0, n,"
        f" 'domain', {sql.now}, 'order-' || n, 1, TRUE FROM generate_series(1, %s) n",
        *(_template(), ",".join(_COUNTRIES), count),
    )
    execute("default", f"VACUUM ANALYZE {STREAM}")
    _filled = count


def _template() -> str:
    from datetime import date

    from context_a.events import OrderLine, Placed

    line = OrderLine(product="Queso Cabrales", unit_price=Decimal("14.00"), quantity=12)
    return codec.encode(
        Placed(
            order_id="@order@",
            customer="Vins et alcools Chevalier",
            country="@country@",
            lines=(line, line),
            total=Decimal("336.00"),
            ordered_on=date(2026, 1, 2),
            required_on=date(2026, 2, 2),
        )
    )


def _raw_page(last: int) -> list[tuple[Any, ...]]:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"SELECT position, payload FROM {STREAM} WHERE context = 'ordering' AND position > %s"
            " AND type IN ('ordering.Placed', 'ordering.Cancelled') ORDER BY position LIMIT %s",
            [last, _PAGE],
        )
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        orders: Counter[str] = Counter()
        revenue: dict[str, Decimal] = defaultdict(Decimal)
        for _, payload in rows:
            event = json.loads(payload)
            orders[event["country"]] += 1
            revenue[event["country"]] += Decimal(event["total"])
        for country in sorted(orders):
            cursor.execute(
                f"INSERT INTO {table(CountryBoard)} AS b (country, orders, revenue)"
                " VALUES (%s, %s, %s) ON CONFLICT (country) DO UPDATE SET"
                " orders = b.orders + excluded.orders, revenue = b.revenue + excluded.revenue",
                [country, orders[country], revenue[country]],
            )
        return rows


BENCHMARKS: Final = (
    Comparison(
        name="rebuild",
        title="rebuild_projection over 1,000,000 events against psycopg and json",
        unit="events",
        bare=raw_rebuild,
        ours=our_rebuild,
        target=0.40,
        size=_EVENTS,
    ),
    Reading(
        name="rebuild-memory",
        title="growth of the process while it rebuilds",
        unit="MB",
        take=memory,
        target=20,
        size=_EVENTS,
    ),
)
