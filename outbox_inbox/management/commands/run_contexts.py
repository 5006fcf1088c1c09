"""``manage.py run_contexts``."""

from argparse import ArgumentParser
from typing import Any

from outbox_inbox.management.arguments import seconds
from outbox_inbox.management.base import QueueCommand, add_contexts, chosen_contexts
from outbox_inbox.operations import MoverTurn
from outbox_inbox.operations.running import INTERVAL, Interrupt, WakeUps, run
from outbox_inbox.transports import transport_problems


class Command(QueueCommand):
    """Run until it is told to stop."""

    help = (
        "Relay, receive and dispatch in one long-running process. SIGTERM or SIGINT finishes the "
        "batch and exits 0; a second one ends it at once. Several of them may run side by side."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --context and --interval."""
        add_contexts(parser)
        parser.add_argument(
            "--interval",
            type=seconds,
            default=INTERVAL,
            metavar="SECONDS",
            help=f"the longest pause between two looks at empty queues; default: {INTERVAL:g}",
        )

    def work(self, options: dict[str, Any]) -> None:
        """Run, and say when it begins and ends."""
        owners = chosen_contexts(options)
        labels = ", ".join(context.label for context in owners) or "no context"
        with Interrupt().installed() as stop, WakeUps(owners, stop.wake) as wake_ups:
            self.say(f"Running {labels}; a signal (Ctrl-C) stops it.", options)
            self.stdout.flush()
            self._warn()
            run(
                owners,
                interval=options["interval"],
                stop=stop,
                wait=stop.wait,
                announced=wake_ups.complete,
                report=lambda step: self._report(step, options),
            )
        self.say("Stopped; nothing was left half done.", options)

    def _warn(self) -> None:
        """Say what is wrong with the servers of the transports, as ``check --deploy`` does."""
        for alias, problem in transport_problems():
            self.stderr.write(self.style.WARNING(f"Transport {alias!r}: {problem}"))
        self.stderr.flush()

    def _report(self, step: MoverTurn, options: dict[str, Any]) -> None:
        if options["verbosity"] > 1:
            done, failed = step.outcome.done, step.outcome.failed + step.outcome.dead
            self.stdout.write(
                f"{step.context.label} {step.mover}: {done:,} done, {failed:,} failed"
            )
            self.stdout.flush()
