"""``manage.py rebuild_projection NAME``."""

import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from outbox_inbox.contexts import get_context
from outbox_inbox.management.base import QueueCommand, add_format, counted
from outbox_inbox.management.progress import shown_progress
from outbox_inbox.operations.rebuilding import Rebuilt, find_read_model, rebuild, rebuild_lag
from outbox_inbox.operations.running import Interrupt


class Command(QueueCommand):
    """Build a read model anew from the stream, and put it in the place of the old one."""

    help = (
        "Build a read model anew from the first event of its context's stream, beside the one that "
        "people read, and let the two change places at the end. May be stopped at any moment, and "
        "called again: it goes on where it was. After a change of the projection say --restart. "
        "Exit code 1: it failed, or was stopped; the read model is as it was."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the name and the options."""
        parser.add_argument("name", metavar="NAME", help="of the projection (@projects(into=…))")
        parser.add_argument(
            "--context", metavar="C", help="whose it is, if several contexts have one of this name"
        )
        parser.add_argument(
            "--restart", action="store_true", help="throw away what an earlier call has left"
        )
        parser.add_argument(
            "--in-place",
            action="store_true",
            help=(
                "empty it first, and let readers see it grow; the only way for a projection without "
                "models of its own"
            ),
        )
        add_format(parser)

    def work(self, options: dict[str, Any]) -> None:
        """Rebuild, and say what came of it."""
        chosen = get_context(options["context"]) if options["context"] else None
        context, read_model = find_read_model(options["name"], chosen)
        begin = time.monotonic()
        total = (
            None if options["restart"] or options["in_place"] else rebuild_lag(context, read_model)
        )
        with (
            Interrupt().installed() as stop,
            shown_progress("rebuild_projection", total, self.stderr, options) as advance,
        ):
            done = rebuild(
                context,
                read_model,
                restart=options["restart"],
                in_place=options["in_place"],
                stop=stop,
                progress=advance,
            )
        self._tell(done, time.monotonic() - begin, options)
        if not done.finished:
            raise CommandError("stopped by a signal; the same command goes on from here")

    def _tell(self, done: Rebuilt, took: float, options: dict[str, Any]) -> None:
        if options["format"] == "json":
            found = {
                "context": done.context,
                "projection": done.name,
                "events": done.events,
                "seconds": round(took, 3),
                "resumed": done.resumed,
                "finished": done.finished,
            }
            self.write_json(found)
            return
        rate = f" ({done.events / took:,.0f}/s)" if took >= 1 else ""
        verb = "Rebuilt" if done.finished else "Began to rebuild"
        resumed = ", going on where it was stopped" if done.resumed else ""
        self.say(
            f"{verb} {done.name} of {done.context} from {counted(done.events, 'event')} in "
            f"{took:.1f} s{rate}{resumed}.",
            options,
            good=done.finished,
        )
