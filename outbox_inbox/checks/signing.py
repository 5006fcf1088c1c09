"""Checks of signatures: keys that are never used, and demands that no message can meet."""

from collections.abc import Iterator

from django.core.checks import CheckMessage

from outbox_inbox.conf import SCHEMES, settings
from outbox_inbox.conf.section import suggestion
from outbox_inbox.contexts import Context

from .messages import error, warning


def check_verifying(context: Context) -> Iterator[CheckMessage]:
    """E017: signatures could not be verified as they are configured."""
    for source, verifying in context.verifying.items():
        where = f'OUTBOX_INBOX["CONTEXTS"]["{context.label}"]["verifying"]'
        if source not in context.sources:
            yield error(
                "E017",
                f"{where} names {source!r}, but the context does not subscribe to a contract of it"
                f"{suggestion(source, context.sources)}",
                "Correct the label, or remove the entry; it has no effect.",
            )
        elif verifying.required and not verifying.keys:
            yield error(
                "E017",
                f'{where}["{source}"] requires signatures, but it has no keys: every message from '
                f"{source!r} would be quarantined.",
                'Give "keys" the keys that the source signs with, or set "required" to False.',
            )


def check_signing(context: Context) -> Iterator[CheckMessage]:
    """W008: ``local://`` moves messages within the process, and does not sign them."""
    wanted = context.signing is not None or any(
        each.required for each in context.verifying.values()
    )
    if wanted and settings().transports[context.transport].backend == SCHEMES["local"]:
        yield warning(
            "W008",
            "The context has signatures configured, but its transport is local://, which neither "
            "signs nor verifies: messages never leave the process.",
            "Remove the keys, or use a transport that leads outside.",
        )


CHECKS = (check_verifying, check_signing)
