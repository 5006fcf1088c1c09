"""The report of a business day: as text, or as JSON for a program."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from outbox_inbox.operations import QueueStats

from .business_day import BusinessDay
from .deployment import SHIPPING, is_deployed
from .hops import Hop

if TYPE_CHECKING:  # at run time the model can only be imported where shipping is deployed
    from context_b.models import CountryBoard


def country_board() -> "Sequence[CountryBoard] | None":
    """Return shipping's country board, the highest revenue first; None where shipping is not deployed."""
    if not is_deployed(SHIPPING):
        return None
    from context_b.models import CountryBoard

    return list(CountryBoard.objects.exclude(orders=0).order_by("-revenue", "country"))


@dataclass(frozen=True, kw_only=True)
class DayReport:
    """The orders of a business day, and its results.

    Fields:
        orders: how many orders the day had.
        day: what the use cases changed.
        seconds: how long it took.
        before, after: how many had passed each hop.
        board: shipping's country board, see `country_board`.
        queues: their state at the end.
        problems: what is not as it should be; empty when all is well.
    """

    orders: int
    day: BusinessDay
    seconds: float
    before: Mapping[Hop, int]
    after: Mapping[Hop, int]
    board: "Sequence[CountryBoard] | None"
    queues: Sequence[QueueStats]
    problems: Sequence[str]

    @property
    def revenue(self) -> Decimal:
        """The revenue of all countries on the board."""
        return sum((row.revenue for row in self.board or ()), Decimal(0))

    def as_json(self) -> dict[str, Any]:
        """Return the report for a program; money is text, so that it is not rounded.

        There are no keys for the board where shipping is not deployed.
        """
        return {
            "orders": self.orders,
            "placed": self.day.placed,
            "cancelled": self.day.cancelled,
            "dispatched": self.day.dispatched,
            "seconds": round(self.seconds, 3),
            "hops": [
                {"context": hop.context, "name": hop.name, "this_run": this_run, "in_all": in_all}
                for hop, this_run, in_all in self._hops()
            ],
            **self._board(),
            "queues": [
                {
                    "context": queue.context,
                    "queue": str(queue.queue),
                    **queue.depth,
                    "scheduled": queue.scheduled,
                }
                for queue in self.queues
            ],
            "problems": list(self.problems),
        }

    def as_text(self) -> str:
        """Return the report as text."""
        parts = [self._summary(), self._hop_table(), self._board_table(), self._queue_lines()]
        return "\n\n".join(filter(None, map("\n".join, parts)))

    def _board(self) -> dict[str, Any]:
        if self.board is None:
            return {}
        return {
            "board": [
                {"country": row.country, "orders": row.orders, "revenue": str(row.revenue)}
                for row in self.board
            ],
            "countries": len(self.board),
            "revenue": str(self.revenue),
        }

    def _summary(self) -> Iterator[str]:
        yield (
            f"{self.orders} orders in {self.seconds:.1f} s: {self.day.placed} placed, "
            f"{self.day.cancelled} cancelled, {self.day.dispatched} dispatched in this run."
        )

    def _hop_table(self) -> Iterator[str]:
        yield f"{'hop':46}{'this run':>10}{'in all':>10}"
        for hop, this_run, in_all in self._hops():
            yield f"{hop.context:12}{hop.name:34}{this_run:10}{in_all:10}"

    def _board_table(self) -> Iterator[str]:
        if self.board is None:
            return
        yield f"{'country board':34}{'orders':>12}{'revenue':>20}"
        for row in self.board:
            yield f"{row.country:34}{row.orders:12}{row.revenue:20.2f}"
        orders = sum(row.orders for row in self.board)
        yield f"{f'{len(self.board)} countries':34}{orders:12}{self.revenue:20.2f}"

    def _queue_lines(self) -> Iterator[str]:
        for queue in self.queues:
            depth = ", ".join(f"{count} {state}" for state, count in queue.depth.items())
            later = f"; {queue.scheduled} scheduled" if queue.scheduled else ""
            yield f"{queue.context:12}{queue.queue:10}{depth.replace('_', ' ')}{later}"

    def _hops(self) -> Iterator[tuple[Hop, int, int]]:
        for hop, count in self.after.items():
            yield hop, count - self.before[hop], count
