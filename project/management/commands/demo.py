"""``manage.py demo``: the whole flow, with generated orders."""

import secrets
from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any

from django.core.management.base import CommandError

from outbox_inbox.management.arguments import whole_number
from outbox_inbox.management.base import WrongUsage
from project.simulation.command import SimulationCommand
from project.simulation.deployment import both_deployed, deployed_labels
from project.simulation.generated_orders import generate_orders
from project.simulation.verification import wrong_countries, wrong_orders

MAX_ORDERS = 100_000


class Command(SimulationCommand):
    """Generate orders, place them, cancel some, dispatch most, and verify the result."""

    help = (
        "Generate orders: place all, cancel one in twenty, dispatch most of the others, report each "
        "hop in between, and verify the sums. Without --seed every run generates new orders; a run "
        "with a seed that was used before changes nothing. "
        "Exit code 3: the run is complete, and something is not as it should be."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the number of orders, and the seed."""
        parser.add_argument(
            "--orders",
            type=whole_number(1),
            default=200,
            metavar="N",
            help=f"how many, up to {MAX_ORDERS:,}; default: 200",
        )
        parser.add_argument(
            "--seed",
            type=whole_number(1),
            metavar="S",
            help="a number that determines the orders; default: another one each time",
        )
        super().add_arguments(parser)

    def work(self, options: dict[str, Any]) -> None:
        """Generate the orders, run a business day, and compare the result with the orders."""
        if not both_deployed():
            raise CommandError(
                f"demo needs both contexts, and this deployment has {deployed_labels()} only: leave "
                "CONTEXTS unset, or run place_orders in each deployment"
            )
        if options["orders"] > MAX_ORDERS:
            raise WrongUsage(f"--orders {options['orders']}: expected at most {MAX_ORDERS:,}")
        seed = options["seed"] or 1 + secrets.randbelow(10**9)
        orders = generate_orders(options["orders"], seed)
        self.print_note(f"The orders of --seed {seed}.", options)

        def verify() -> Iterable[str]:
            return [*wrong_orders(orders), *wrong_countries()]

        self.run_day(orders, options, verify)
