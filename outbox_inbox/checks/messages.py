"""How the checks of this package write their messages."""

from typing import Any

from django.core.checks import Error
from django.core.checks import Warning as CheckWarning


def error(number: str, text: str, hint: str, label: str | None = None) -> Error:
    """Return the error ``outbox_inbox.<number>`` about the context with this label."""
    return Error(text, hint=hint, obj=label, id=f"outbox_inbox.{number}")


def warning(number: str, text: str, hint: str, label: str | None = None) -> CheckWarning:
    """Return the warning ``outbox_inbox.<number>`` about the context with this label."""
    return CheckWarning(text, hint=hint, obj=label, id=f"outbox_inbox.{number}")


def where(defined: Any) -> str:
    """Return the dotted path of a class or function."""
    return f"{defined.__module__}.{defined.__qualname__}"
