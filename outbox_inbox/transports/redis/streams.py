"""The names of the streams, and which of them there are."""

from outbox_inbox.contexts import Context

from .link import Link, command

MOST = 1_024
"""As many partitions as an outbox can have (PARTITIONS)."""


class Streams:
    """Knows the streams of publishing contexts, as far as anything was ever published there.

    How many partitions the outbox of another process has is nowhere written down, so it is looked
    which streams exist. A stream that was seen once is not forgotten.
    """

    def __init__(self, link: Link, prefix: str) -> None:
        self._link = link
        self._prefix = prefix
        self._known: dict[str, list[str]] = {}
        self._count: dict[str, bytes] = {}

    def name(self, label: str, partition: int) -> str:
        """Return the name of a stream."""
        return f"{self._prefix}:{label}:{partition}" if partition else f"{self._prefix}:{label}"

    def known(self, context: Context) -> list[str]:
        """Return the streams that a context reads; the first of each source, even if it is new."""
        labels = sorted(context.sources)
        return [name for label in labels for name in self._of(label)]

    def counts(self, context: Context) -> list[bytes]:
        """Return commands whose answers `are_new` understands: one for each source."""
        return [self._counting(label) for label in sorted(context.sources)]

    def are_new(self, context: Context, answers: list[int]) -> bool:
        """Tell whether there are streams that `known` does not name."""
        labels = sorted(context.sources)
        return any(
            count > len(self._of(label)) - 1 for label, count in zip(labels, answers, strict=True)
        )

    def discover(self, context: Context) -> None:
        """Ask the server for the streams of all partitions.

        Raises:
            TransportUnavailable: the server cannot be asked.
        """
        for label in sorted(context.sources):
            names = [self.name(label, number) for number in range(1, MOST)]
            there = self._link.get(*(command("EXISTS", name) for name in names))
            found = {name for name, exists in zip(names, there, strict=True) if exists}
            found |= set(self._of(label)[1:])
            self._known[label] = [self.name(label, 0), *filter(found.__contains__, names)]

    def _of(self, label: str) -> list[str]:
        return self._known.setdefault(label, [self.name(label, 0)])

    def _counting(self, label: str) -> bytes:
        # One command for a thousand names: the server looks them up in a tenth of a millisecond.
        if label not in self._count:
            names = (self.name(label, number) for number in range(1, MOST))
            self._count[label] = command("EXISTS", *names)
        return self._count[label]
