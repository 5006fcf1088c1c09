"""The names of the Redis streams, which of them exist, and which of them cannot be read."""

from collections.abc import Sequence
from math import inf
from typing import Any

from outbox_inbox.conf.clock import monotonic
from outbox_inbox.contexts import Context

from .client import Client, ResponseError, command, error_text

MAX_PARTITIONS = 1_024
"""As many partitions as an outbox can have (PARTITIONS)."""
AGAIN = 10.0
"""Seconds after which a stream that could not be read is tried again."""
_ABOUT_ONE_KEY = ("WRONGTYPE", "NOPERM")


class StreamNames:
    """The streams of publishing contexts to which a message was ever published.

    A publisher may be another deployment, and its number of partitions is not stored in Redis, so
    the server is asked which streams exist. A stream that was found once is not forgotten.

    A key of another type, or one that the user may not read, is left out of what is read: it would
    have the server refuse the command that reads all streams of a context.
    """

    def __init__(self, client: Client, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._found: dict[str, list[str]] = {}
        self._count_commands: dict[str, bytes] = {}
        self._unreadable: dict[str, str] = {}
        self._tried = -inf

    def name(self, label: str, partition: int) -> str:
        """Return the name of the stream of a partition."""
        return f"{self._prefix}:{label}:{partition}" if partition else f"{self._prefix}:{label}"

    def found(self, context: Context) -> list[str]:
        """Return the streams of a context's sources; the first of each even before it exists."""
        labels = sorted(context.sources)
        return [name for label in labels for name in self._found_of(label)]

    def known(self, context: Context) -> list[str]:
        """Return those of `found` that the context reads: all that can be read."""
        return [name for name in self.found(context) if name not in self._unreadable]

    def unreadable(self, context: Context) -> dict[str, str]:
        """Return those of `found` that cannot be read, each with the reason."""
        found = self.found(context)
        return {name: self._unreadable[name] for name in found if name in self._unreadable}

    def retries(self, context: Context) -> bool:
        """Return whether a stream that could not be read is to be tried again."""
        return bool(self.unreadable(context)) and monotonic() - self._tried > AGAIN

    def note_reply(self, context: Context, name: str, reply: Any) -> bool:
        """Note whether a stream can be read, as a reply about it says; return whether it can.

        Raises:
            TransportUnavailable: none of the context's streams can be read.
        """
        self._tried = monotonic()
        if not is_about_key(reply):
            self._unreadable.pop(name, None)
            return True
        self._unreadable[name] = error_text(reply)
        if not self.known(context):
            self._client.check([reply], name)
        return False

    def count_commands(self, context: Context) -> list[bytes]:
        """Return one command for each source of a context; `are_incomplete` takes their replies."""
        for label in context.sources - self._count_commands.keys():
            # One command for a thousand names: the server looks them up in a tenth of a millisecond.
            names = (self.name(label, number) for number in range(1, MAX_PARTITIONS))
            self._count_commands[label] = command("EXISTS", *names)
        return [self._count_commands[label] for label in sorted(context.sources)]

    def are_incomplete(self, context: Context, counts: Sequence[Any]) -> bool:
        """Return whether streams exist that `found` does not return yet.

        Raises:
            TransportUnavailable: the server cannot say, for a reason that is not about one source.
        """
        for label, count in zip(sorted(context.sources), counts, strict=True):
            if is_about_key(count):
                continue  # of this source alone; the reply about its first stream says so as well
            self._client.check([count])
            if count > len(self._found_of(label)) - 1:
                return True
        return False

    def discover_streams(self, context: Context) -> None:
        """Ask the server for the streams of all partitions of a context's sources."""
        for label in sorted(context.sources):
            names = [self.name(label, number) for number in range(1, MAX_PARTITIONS)]
            replies = self._client.ask(*(command("EXISTS", name) for name in names))
            self._client.check([reply for reply in replies if not is_about_key(reply)])
            found = {
                name
                for name, exists in zip(names, replies, strict=True)
                if exists and not isinstance(exists, ResponseError)
            }
            found |= set(self._found_of(label)[1:])
            self._found[label] = [self.name(label, 0), *filter(found.__contains__, names)]

    def _found_of(self, label: str) -> list[str]:
        return self._found.setdefault(label, [self.name(label, 0)])


def is_about_key(reply: Any) -> bool:
    """Return whether a reply is an error of one key, which the commands about others do not meet."""
    return isinstance(reply, ResponseError) and error_text(reply).startswith(_ABOUT_ONE_KEY)
