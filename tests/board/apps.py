"""What the board declares: nothing but itself."""

from outbox_inbox.contexts import ContextConfig


class BoardConfig(ContextConfig):
    """A context that talks to nobody."""

    name = "tests.board"
    label = "board"
