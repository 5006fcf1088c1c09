"""What ordering reads off its own stream: rebuilt from it whenever somebody has a better idea."""

from collections import Counter, defaultdict
from decimal import Decimal

from django.db.models import F

from outbox_inbox.projections import projects

from .events import Cancelled, Placed
from .models import CountryBoard


# It gets many events at once, so a country costs one UPDATE for all of them.
@projects(Placed, Cancelled, into="country_board", many=True)
def count_by_country(events: list[Placed | Cancelled]) -> None:
    """Keep the board: an order placed counts, an order cancelled no longer does."""
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
