"""One event for each way of consuming: an order's steps are numbered from 1."""

from outbox_inbox import DomainEvent


class Noted(DomainEvent, key="order"):
    """Handled in a transaction of its own, by two consumers."""

    order: str
    number: int


class Counted(DomainEvent, key="order"):
    """Handled with others in one transaction."""

    order: str
    number: int


class Listed(DomainEvent, key="order"):
    """Handled as a list."""

    order: str
    number: int


class Skipped(DomainEvent, key="order"):
    """Handled by one who lets the followers of a dead message pass."""

    order: str
    number: int


class Twice(DomainEvent, key="order"):
    """Handled by one who has two attempts."""

    order: str
    number: int


class Loose(DomainEvent):
    """Has no key, and so no order."""

    order: str
    number: int


class Checked(DomainEvent, key="order"):
    """Translated into the contract."""

    order: str
    number: int


class Opened(DomainEvent, key="order"):
    """Handled by the consumer that also handles `Closed`."""

    order: str
    number: int


class Closed(DomainEvent, key="order"):
    """Handled by the consumer that also handles `Opened`."""

    order: str
    number: int


class Grown(DomainEvent, version=2, key="order"):
    """Was once written with its number under another name."""

    order: str
    number: int


class Unheard(DomainEvent, key="order"):
    """An event without a consumer."""

    order: str
    number: int
