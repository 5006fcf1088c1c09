"""``manage.py retire_consumer``: let a consumer that the code has no more get no more messages."""

from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from outbox_inbox.contexts import get_context
from outbox_inbox.management.base import QueueCommand
from outbox_inbox.management.wording import age_text, counted
from outbox_inbox.operations import Retired, retire
from outbox_inbox.queues.interests import CONFIRM_AFTER


class Command(QueueCommand):
    shared_options = ("--format",)
    help = (
        "Let consumers, read models or subscriptions that were removed from the code get no more "
        "messages, at once. Without it that happens when no process has had them for ten minutes. "
        "What they left unfinished stays: see rename_consumer and discard_messages --unfinished."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--context", required=True, metavar="LABEL", help="of this context")
        parser.add_argument(
            "names",
            nargs="+",
            metavar="NAME",
            help="a consumer, a read model, or the name of a contract that was subscribed to",
        )
        parser.add_argument("--type", metavar="TYPE", help="only for this type of event")

    def work(self, options: dict[str, Any]) -> None:
        context = get_context(options["context"])
        names = list(dict.fromkeys(options["names"]))
        found = retire(context, names, options["type"])
        lines = [line for each in found for line in _lines(each)]
        self.print_result([asdict(each) for each in found], lines, options)


def _lines(retired: Retired) -> list[str]:
    lines = [f"{retired.context}: {retired.name} gets no more messages."]
    if retired.unfinished:
        count = counted(retired.unfinished, "unfinished delivery", "unfinished deliveries")
        lines.append(f"It leaves {'more than ' * retired.minimum}{count}.")
    if retired.confirmed < 2 * CONFIRM_AFTER.total_seconds():
        lines.append(
            f"A running process had it {age_text(retired.confirmed)} ago: if it still runs, it "
            "brings it back."
        )
    return lines
