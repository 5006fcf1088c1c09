"""The names of the Redis streams, and which of them exist."""

from outbox_inbox.contexts import Context

from .client import Client, command

MAX_PARTITIONS = 1_024
"""As many partitions as an outbox can have (PARTITIONS)."""


class StreamNames:
    """The streams of publishing contexts to which a message was ever published.

    A publisher may be another deployment, and its number of partitions is not stored in Redis, so
    the server is asked which streams exist. A stream that was found once is not forgotten.
    """

    def __init__(self, client: Client, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._known: dict[str, list[str]] = {}
        self._count_commands: dict[str, bytes] = {}

    def name(self, label: str, partition: int) -> str:
        """Return the name of the stream of a partition."""
        return f"{self._prefix}:{label}:{partition}" if partition else f"{self._prefix}:{label}"

    def known(self, context: Context) -> list[str]:
        """Return the streams that a context reads; the first of each source even before it exists."""
        labels = sorted(context.sources)
        return [name for label in labels for name in self._known_of(label)]

    def count_commands(self, context: Context) -> list[bytes]:
        """Return one command for each source of a context; `are_incomplete` takes their replies."""
        for label in context.sources - self._count_commands.keys():
            # One command for a thousand names: the server looks them up in a tenth of a millisecond.
            names = (self.name(label, number) for number in range(1, MAX_PARTITIONS))
            self._count_commands[label] = command("EXISTS", *names)
        return [self._count_commands[label] for label in sorted(context.sources)]

    def are_incomplete(self, context: Context, counts: list[int]) -> bool:
        """Return whether streams exist that `known` does not return yet."""
        counted = zip(sorted(context.sources), counts, strict=True)
        return any(count > len(self._known_of(label)) - 1 for label, count in counted)

    def discover_streams(self, context: Context) -> None:
        """Ask the server for the streams of all partitions of a context's sources."""
        for label in sorted(context.sources):
            names = [self.name(label, number) for number in range(1, MAX_PARTITIONS)]
            replies = self._client.ask_strictly(*(command("EXISTS", name) for name in names))
            found = {name for name, exists in zip(names, replies, strict=True) if exists}
            found |= set(self._known_of(label)[1:])
            self._known[label] = [self.name(label, 0), *filter(found.__contains__, names)]

    def _known_of(self, label: str) -> list[str]:
        return self._known.setdefault(label, [self.name(label, 0)])
