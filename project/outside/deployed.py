"""Says which of the two contexts are in this process: the other one may be deployed elsewhere.

Modules of a context that is not here cannot be imported as far as they have models. So the outside
world imports shipping's and ordering's models only where it has asked here before.
"""

from outbox_inbox.contexts import contexts

ORDERING, SHIPPING = "ordering", "shipping"


def here(label: str) -> bool:
    """Tell whether a context is in this process."""
    return any(context.label == label for context in contexts())


def all_here() -> bool:
    """Tell whether both contexts are in this process."""
    return here(ORDERING) and here(SHIPPING)


def names() -> str:
    """Return the labels of the contexts in this process, for a sentence."""
    return " and ".join(label for label in (ORDERING, SHIPPING) if here(label))
