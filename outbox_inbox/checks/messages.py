"""How the checks of this package write their messages."""

from django.core.checks import Error
from django.core.checks import Warning as CheckWarning


def error(number: str, text: str, hint: str) -> Error:
    """Return the error ``outbox_inbox.<number>``."""
    return Error(text, hint=hint, id=f"outbox_inbox.{number}")


def warning(number: str, text: str, hint: str) -> CheckWarning:
    """Return the warning ``outbox_inbox.<number>``."""
    return CheckWarning(text, hint=hint, id=f"outbox_inbox.{number}")
