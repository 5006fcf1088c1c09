"""``manage.py place_orders``: real input through the real use cases."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from outbox_inbox.management.arguments import seconds
from project.outside.business import PATIENCE
from project.outside.command import OutsideCommand, at_most
from project.outside.order_files import WrongFiles, read_orders


class Command(OutsideCommand):
    """Place the orders of two files, and dispatch those that were shipped."""

    help = (
        "Place the orders of two CSV files, dispatch those that have been shipped, and report each "
        "hop in between. Nothing is stored when anything is wrong in the files. Doing it again, "
        "after a crash too, changes nothing that has been done: the order ids see to that. "
        "Where only one of the contexts is deployed (CONTEXTS), only its part is done: ordering "
        "places the orders; shipping dispatches them, as soon as they have been booked. "
        "Exit code 1: a file is wrong; 3: all was done, and something is not as it should be."
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
        """Read both files completely before anything is done."""
        try:
            orders = read_orders(options["orders"], options["lines"])
        except WrongFiles as wrong:
            raise CommandError(at_most(wrong.problems)) from wrong
        self.play(orders, options)
