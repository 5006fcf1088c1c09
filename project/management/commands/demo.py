"""``manage.py demo``: the whole flow, for somebody who has no orders at hand."""

import secrets
from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any

from django.core.management.base import CommandError

from outbox_inbox.management.arguments import whole_number
from outbox_inbox.management.base import WrongUsage
from project.outside.checking import wrong_countries, wrong_orders
from project.outside.command import OutsideCommand
from project.outside.deployed import all_here, names
from project.outside.made_orders import make_orders

MOST = 100_000


class Command(OutsideCommand):
    """Make orders, place them, cancel some, dispatch most, and check the sums."""

    help = (
        "Make orders and do business with them: place all, cancel one in twenty, dispatch most of "
        "the others, report each hop in between, and check the sums. Without --seed every run "
        "brings new orders; a run with a seed that was used before changes nothing. "
        "Exit code 3: all was done, and something is not as it should be."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the number of orders, and the seed."""
        parser.add_argument(
            "--orders",
            type=whole_number(1),
            default=200,
            metavar="N",
            help=f"how many, up to {MOST:,}; default: 200",
        )
        parser.add_argument(
            "--seed",
            type=whole_number(1),
            metavar="S",
            help="a number that the orders are made from; default: another one each time",
        )
        super().add_arguments(parser)

    def work(self, options: dict[str, Any]) -> None:
        """Make the orders, do as `place_orders` does, and hold the outcome against them."""
        if not all_here():
            raise CommandError(
                f"demo plays with both contexts, and this deployment has {names()} only: leave "
                "CONTEXTS unset, or run place_orders in each deployment"
            )
        if options["orders"] > MOST:
            raise WrongUsage(f"--orders {options['orders']}: expected at most {MOST:,}")
        seed = options["seed"] or 1 + secrets.randbelow(10**9)
        orders = make_orders(options["orders"], seed)
        self.print_note(f"The orders of --seed {seed}.", options)

        def check() -> Iterable[str]:
            return [*wrong_orders(orders), *wrong_countries()]

        self.play(orders, options, check)
