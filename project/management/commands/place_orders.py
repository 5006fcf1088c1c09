"""``manage.py place_orders``: orders from files, through the use cases of both contexts."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from outbox_inbox.management.arguments import seconds
from project.simulation.business_day import PATIENCE
from project.simulation.command import SimulationCommand, at_most
from project.simulation.order_files import InvalidFiles, read_orders


class Command(SimulationCommand):
    """Place the orders of two files, and dispatch the shipped ones."""

    help = (
        "Place the orders of two CSV files, dispatch the shipped ones, and report each hop in "
        "between. Nothing is stored if a file has a mistake. The command may be repeated, after a "
        "crash too: an order id is placed and dispatched once. Where only one of the contexts is "
        "deployed (CONTEXTS), only its part is done: ordering places the orders; shipping "
        "dispatches them, as soon as they have been booked. "
        "Exit code 1: a file has a mistake; 3: the run is complete, and something is not as it "
        "should be."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the two files."""
        parser.add_argument("orders", type=Path, metavar="ORDERS.csv")
        parser.add_argument("lines", type=Path, metavar="LINES.csv")
        parser.add_argument(
            "--wait",
            type=seconds,
            default=PATIENCE.total_seconds(),
            metavar="SECONDS",
            help=(
                "how long to wait for the next shipment to be booked, where ordering is deployed "
                f"elsewhere; default: {PATIENCE.total_seconds():.0f}"
            ),
        )
        super().add_arguments(parser)

    def work(self, options: dict[str, Any]) -> None:
        """Read both files completely before the first order is placed."""
        try:
            orders = read_orders(options["orders"], options["lines"])
        except InvalidFiles as invalid:
            raise CommandError(at_most(invalid.problems)) from invalid
        self.run_day(orders, options)
