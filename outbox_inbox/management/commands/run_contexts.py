"""``manage.py run_contexts``: run until a signal stops it."""

from argparse import ArgumentParser
from typing import Any

from outbox_inbox.management.arguments import chosen_contexts, seconds
from outbox_inbox.management.base import QueueCommand
from outbox_inbox.operations import MoverTurn
from outbox_inbox.operations.running import INTERVAL, Interrupt, WakeUps, run
from outbox_inbox.signals.escaping import visible
from outbox_inbox.transports import transport_problems


class Command(QueueCommand):
    shared_options = ("--context",)
    help = (
        "Relay, receive and dispatch in one long-running process. On SIGTERM or SIGINT it finishes "
        "its batch and exits with 0; a second signal ends it at once. Several processes may run "
        "side by side."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--interval",
            type=seconds,
            default=INTERVAL,
            metavar="SECONDS",
            help=f"poll empty queues at least this often; default: {INTERVAL:g}",
        )

    def work(self, options: dict[str, Any]) -> None:
        chosen = chosen_contexts(options)
        labels = ", ".join(context.label for context in chosen) or "no context"
        with Interrupt().installed() as stop, WakeUps(chosen, stop.wake) as wake_ups:
            self.print_summary(
                f"Running {labels}. Press Ctrl-C (or send SIGTERM) to stop.", options
            )
            self.stdout.flush()
            self._print_warnings()
            run(
                chosen,
                interval=options["interval"],
                stop=stop,
                wait=stop.wait,
                announced=wake_ups.complete,
                report=lambda turn: self._print_turn(turn, options),
            )
        self.print_summary("Stopped; the current batch is finished.", options)

    def _print_warnings(self) -> None:
        """Print the problems of the transports' servers, which ``check --deploy`` finds as well."""
        for alias, problem in transport_problems():
            text = visible(f"Transport {alias!r}: {problem}", None)
            self.stderr.write(self.style.WARNING(text))
        self.stderr.flush()

    def _print_turn(self, turn: MoverTurn, options: dict[str, Any]) -> None:
        if options["verbosity"] > 1:
            done, failed = turn.outcome.done, turn.outcome.failed + turn.outcome.dead
            self.stdout.write(
                f"{turn.context.label} {turn.mover}: {done:,} done, {failed:,} failed"
            )
            self.stdout.flush()
