"""Projections of ordering's stream: read models that can be rebuilt from it after a change."""

from collections import Counter, defaultdict
from decimal import Decimal

from django.db.models import F

from outbox_inbox.projections import projects

from .events import Cancelled, Placed
from .models import CountryBoard


# It gets many events at once, so it needs one UPDATE a country for all of them.
@projects(Placed, Cancelled, into="country_board", many=True)
def count_by_country(events: list[Placed | Cancelled]) -> None:
    """Update the board: a placed order is added, a cancelled one is subtracted."""
    orders: Counter[str] = Counter()
    revenue: dict[str, Decimal] = defaultdict(Decimal)
    for event in events:
        sign = 1 if isinstance(event, Placed) else -1
        orders[event.country] += sign
        revenue[event.country] += sign * event.total
    CountryBoard.objects.bulk_create(
        [CountryBoard(country=country) for country in sorted(orders)], ignore_conflicts=True
    )
    for country in sorted(orders):
        CountryBoard.objects.filter(country=country).update(
            orders=F("orders") + orders[country], revenue=F("revenue") + revenue[country]
        )
