"""How the checks of this package write their messages: what a server answers is made visible."""

from django.core.checks import Error
from django.core.checks import Warning as CheckWarning

from outbox_inbox.signals.escaping import visible_lines


def error(number: str, text: str, hint: str) -> Error:
    """Return the error ``outbox_inbox.<number>``."""
    return Error(visible_lines(text), hint=hint, id=f"outbox_inbox.{number}")


def warning(number: str, text: str, hint: str) -> CheckWarning:
    """Return the warning ``outbox_inbox.<number>``."""
    return CheckWarning(visible_lines(text), hint=hint, id=f"outbox_inbox.{number}")
