"""``manage.py rebase_checkpoints``: adapt the checkpoints of a restored database to its new server."""

from dataclasses import asdict
from typing import Any

from outbox_inbox.management.arguments import chosen_contexts
from outbox_inbox.management.base import QueueCommand
from outbox_inbox.management.wording import counted
from outbox_inbox.operations import rebase


class Command(QueueCommand):
    shared_options = ("--context", "--dry-run", "--format")
    help = (
        "Rebase the checkpoints of a PostgreSQL database that was restored from a dump: express "
        "what each subscription has handled in the transaction ids of this server. Until then, "
        "subscriptions refuse to work. Run it before anything is recorded there. On SQLite it "
        "does nothing. In a database that was not restored it does no harm."
    )

    def work(self, options: dict[str, Any]) -> None:
        found = rebase(chosen_contexts(options), dry_run=options["dry_run"])
        verb = "would be rebased" if options["dry_run"] else "rebased"
        lines = [
            f"{each.context} {each.subscription}: {verb}, {counted(each.unhandled, 'event')} to be handled"
            for each in found
        ]
        document = {
            "subscriptions": [asdict(each) for each in found],
            "dry_run": options["dry_run"],
        }
        nothing = "Nothing to rebase: no subscription is on PostgreSQL."
        self.print_result(document, lines or [nothing], options)
