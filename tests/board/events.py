"""What happens on the board: a player scores, and sometimes the score does not count."""

from outbox_inbox import DomainEvent


class Scored(DomainEvent, key="player"):
    """A player has scored."""

    player: str
    points: int


class Annulled(DomainEvent, key="player", version=2):
    """Some points do not count after all."""

    player: str
    points: int


class Cheered(DomainEvent, key="player"):
    """An event without a consumer."""

    player: str
