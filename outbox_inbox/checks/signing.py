"""Checks of signatures: keys that nobody asks for, and demands that nobody can fulfil."""

from collections.abc import Iterator

from django.core.checks import CheckMessage

from outbox_inbox.conf import SCHEMES, settings
from outbox_inbox.conf.section import suggestion
from outbox_inbox.contexts import Context

from .messages import error, warning


def check_verifying(context: Context) -> Iterator[CheckMessage]:
    """E017: nothing could be verified as it is configured."""
    for source, verifying in context.verifying.items():
        where = f'OUTBOX_INBOX["CONTEXTS"]["{context.label}"]["verifying"]'
        if source not in context.sources:
            yield error(
                "E017",
                f"{where} names {source!r}, and no contract of that context is subscribed to"
                f"{suggestion(source, context.sources)}",
                "Correct the label, or take the entry out; it has no effect.",
                context.label,
            )
        elif verifying.required and not verifying.keys:
            yield error(
                "E017",
                f'{where}["{source}"] requires signatures and has no keys: every message from '
                f"{source!r} would be quarantined.",
                'Give "keys" the keys that the source signs with, or set "required" to False.',
                context.label,
            )


def check_signing(context: Context) -> Iterator[CheckMessage]:
    """W008: ``local://`` hands messages over within the process, and signs none."""
    wanted = context.signing is not None or any(
        each.required for each in context.verifying.values()
    )
    if wanted and settings().transports[context.transport].backend == SCHEMES["local"]:
        yield warning(
            "W008",
            "Signatures are configured for it, and its transport is local://, which neither signs "
            "nor verifies: messages never leave the process.",
            "Take the keys out, or use a transport that leads outside.",
            context.label,
        )


CHECKS = (check_verifying, check_signing)
