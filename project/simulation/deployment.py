"""Which of the two contexts this process has: the other one may be deployed elsewhere.

Importing the models of a context that is not deployed fails. So the simulation imports them within
functions, after it has asked here.
"""

from outbox_inbox.contexts import contexts

ORDERING, SHIPPING = "ordering", "shipping"


def is_deployed(label: str) -> bool:
    """Return whether this process has the context."""
    return any(context.label == label for context in contexts())


def both_deployed() -> bool:
    """Return whether this process has both contexts."""
    return is_deployed(ORDERING) and is_deployed(SHIPPING)


def deployed_labels() -> str:
    """Return the labels of the contexts that this process has, for a sentence."""
    return " and ".join(label for label in (ORDERING, SHIPPING) if is_deployed(label))
