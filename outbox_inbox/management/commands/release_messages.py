"""``manage.py release_messages``: release quarantined messages."""

from typing import Any, ClassVar

from outbox_inbox.management.base import ProblemFound
from outbox_inbox.management.selection import (
    NONE_QUARANTINED,
    SelectionCommand,
    quarantine_selection,
)
from outbox_inbox.management.wording import counted
from outbox_inbox.operations import Released, release


class Command(SelectionCommand):
    help = (
        "Check quarantined messages again, with the current code and settings. Put those that pass "
        "into the inbox, behind the messages received since. Exit with 3 if some stay in "
        "quarantine."
    )
    done, would = "Released", "Would release"
    nothing = NONE_QUARANTINED

    ways: ClassVar = {
        "--all": "all quarantined messages",
        "--type": "messages of this type: shop.sold.v1, or shop.sold",
        "--id": "the message with this id, as its sender wrote it",
    }
    reason_option = "--reason"

    def work(self, options: dict[str, Any]) -> None:
        selection = quarantine_selection(options, options["reason"])
        found = release(selection, dry_run=options["dry_run"])
        report = counted(found.released, "message") if found.released or found.staying else ""
        self.print_quarantine_report(report, selection, options, good=not found.staying)
        if found.staying:
            raise ProblemFound(_staying_text(found))


def _staying_text(found: Released) -> str:
    reasons = ", ".join(f"{count:,} {each.label}" for each, count in sorted(found.kept.items()))
    stay = "1 stays" if found.staying == 1 else f"{found.staying:,} stay"
    text = f"{stay} in quarantine: {reasons}"
    if not found.cut:
        return text
    of_them = f"{found.cut:,} of them" if found.staying > 1 else "it"
    return (
        f"{text}. Only the beginning of {of_them} is stored (MAX_PAYLOAD): "
        "such a message cannot be released; ask its sender to send it again"
    )
