"""``manage.py rebuild_projection``: rebuild a read model from its stream, and replace the old one."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from outbox_inbox.conf.clock import monotonic
from outbox_inbox.contexts import get_context
from outbox_inbox.management.base import QueueCommand
from outbox_inbox.management.progress import progress_display
from outbox_inbox.management.wording import counted
from outbox_inbox.operations.rebuilding import Rebuilt, find_read_model, rebuild, rebuild_lag
from outbox_inbox.operations.running import Interrupt


class Command(QueueCommand):
    shared_options = ("--format",)
    help = (
        "Rebuild a read model from the first event of its context's stream, in tables of its own, and "
        "replace the old rows in one transaction at the end. It may be stopped at any time; the "
        "next call continues. After a change of the projection, add --restart. Exit with 1 if the "
        "rebuild failed or was stopped; readers then still see the old rows."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "name", metavar="NAME", help="rebuild this projection, as named in @projects(into=NAME)"
        )
        parser.add_argument(
            "--context",
            metavar="LABEL",
            help="look in this context; needed only if several have a projection of this name",
        )
        parser.add_argument(
            "--restart", action="store_true", help="discard the progress of an earlier call"
        )
        parser.add_argument(
            "--in-place",
            action="store_true",
            help=(
                "empty the read model first, and let readers see it grow; required for a projection "
                "without models of its own"
            ),
        )

    def work(self, options: dict[str, Any]) -> None:
        chosen = get_context(options["context"]) if options["context"] else None
        context, read_model = find_read_model(options["name"], chosen)
        begin = monotonic()
        ways = {name: options[name] for name in ("restart", "in_place")}
        total = None if any(ways.values()) else rebuild_lag(context, read_model)
        display = progress_display("rebuild_projection", total, self.stderr, options)
        with Interrupt().installed() as stop, display as advance:
            done = rebuild(context, read_model, **ways, stop=stop, progress=advance)
        self._print_report(done, monotonic() - begin, options)
        if not done.finished:
            raise CommandError("stopped by a signal; run the same command again to continue")

    def _print_report(self, done: Rebuilt, took: float, options: dict[str, Any]) -> None:
        document = {
            "context": done.context,
            "projection": done.name,
            "events": done.events,
            "seconds": round(took, 3),
            "resumed": done.resumed,
            "finished": done.finished,
        }
        rate = f" ({done.events / took:,.0f}/s)" if took >= 1 else ""
        verb = "Rebuilt" if done.finished else "Partly rebuilt"
        resumed = ", continuing an earlier call" if done.resumed else ""
        text = (
            f"{verb} {done.name} of {done.context} from {counted(done.events, 'event')} in "
            f"{took:.1f} s{rate}{resumed}."
        )
        self.print_result(document, [text], options, good=done.finished)
