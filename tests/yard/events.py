"""What happens in the yard; the numbers order nothing, so that the process has to."""

from outbox_inbox import DomainEvent


class Begun(DomainEvent, key="order"):
    """A deal begins."""

    order: str
    number: int = 0


class Moved(DomainEvent, key="place", version=2):
    """Something is moved for a deal; its message is ordered by the place, not the deal."""

    order: str | None
    place: str


class Ended(DomainEvent, key="order"):
    """A deal ends."""

    order: str


class Nudged(DomainEvent):
    """Concerns a deal if there is one."""

    order: str


class Expired(DomainEvent, key="order"):
    """What the process says when a time-out has come."""

    order: str
    name: str
