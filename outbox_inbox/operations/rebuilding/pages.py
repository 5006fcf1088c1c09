"""The copies of a read model under way: filled page by page, then put in the place of the old rows."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import IntegrityError, connections

from outbox_inbox.conf import faults
from outbox_inbox.contexts import Context, ReadModel
from outbox_inbox.exceptions import OutboxInboxError, RebuildFailed
from outbox_inbox.models import StoredEvent
from outbox_inbox.queues.attempts import error_line
from outbox_inbox.queues.statements.stream_pages import StreamRow
from outbox_inbox.streams.projecting import (
    apply_projections,
    place_of_event,
    raise_database_failure,
    read_page,
)
from outbox_inbox.streams.subscriptions import (
    Cursor,
    follow,
    open_cursor,
    rewind_checkpoint,
    take_over_checkpoint,
)

from .shadow_tables import Shadow, shadow_of

BESIDE = " (rebuild)"
"""Ends the name of the subscription that fills the copies; no name that a user gives has spaces."""

_PAGE = 5_000  # events of a transaction
_PATIENCE = 30.0  # seconds to wait for those who are at work on the read model


class Rebuild:
    """The rebuild of one read model, a transaction a step."""

    def __init__(self, context: Context, read_model: ReadModel) -> None:
        self.context, self.read_model = context, read_model
        self.connection = connections[context.database]
        self.shadow: Shadow = shadow_of(self.connection, read_model.models)
        self.name = read_model.name + BESIDE
        self._size = _PAGE  # events of the next page: fewer after one that failed
        self._doubtful = 0  # events of a page that failed which have not been taken in since
        self._rows: list[StreamRow] = []  # what a projection is at work on

    def begin(self, *, restart: bool) -> bool:
        """Make the copies, unless they are there; tell whether they were."""
        with self._locked(self.name):
            there = self.shadow.exists()
            if there and not restart:
                return True
            self.shadow.drop()
            self.shadow.make()
            rewind_checkpoint(self.context, self.name)
            return False

    def take_page(self) -> tuple[int, bool]:
        """Take in one page; return how many events it had, and whether it was the last.

        Where a projection fails, the next page is half as long, down to the one event it fails on:
        what comes before that is kept.

        Raises:
            RebuildFailed: that event was reached.
        """
        self._rows = []
        try:
            with self._locked(self.name) as cursor:
                taken = self._read(cursor)
                cursor.save()
                faults.point("project.before_commit")
        except Exception as error:  # noqa: BLE001  raised as soon as it is about one event
            self._shorten(error)
            return 0, False
        faults.point("project.after_commit")
        self._doubtful -= taken
        if self._doubtful <= 0:
            self._size, self._doubtful = _PAGE, 0
        return taken, cursor.caught_up

    def _shorten(self, error: Exception) -> None:
        """Let the next page be shorter than the one that failed, unless that was a single event."""
        if not self._rows:
            raise error
        raise_database_failure(self.context, error)
        if len(self._rows) == 1:
            raise self._failed(self._rows[0], error) from error
        self._doubtful = max(self._doubtful, len(self._rows))
        self._size = len(self._rows) // 2

    def _failed(self, row: StreamRow, error: Exception) -> RebuildFailed:
        stored = StoredEvent.objects.using(self.connection.alias).get(position=row.position)
        failed = RebuildFailed(
            f"the projection {self.read_model.name!r} failed on {place_of_event(row)}, id "
            f"{stored.message_id}: {error_line(error)}. What comes before that event is kept, and the "
            "read model that people see is as it was. Correct the projection, and call the same "
            "command again, which goes on with this event; or with --restart, if the correction "
            "changes what the events before it come to"
        )
        failed.position, failed.type, failed.message_id = row.position, row.type, stored.message_id
        return failed

    def swap(self) -> tuple[int, bool]:
        """Take in what is left, and put the new rows in the place of the old ones.

        Return how many events were left, and whether all is done: not if a projection failed on what
        has come since the last page, which has then to be taken in page by page.
        """
        self._rows = []
        placing = False
        try:
            with self._locked(self.name) as cursor:
                live = self._live()
                taken = self._read(cursor)
                while not cursor.caught_up:
                    taken += self._read(cursor)
                cursor.save()
                live.save()
                placing = True
                self.shadow.swap()
                take_over_checkpoint(self.context, self.read_model.name, self.name)
                self.shadow.drop()
        except Exception as error:
            if placing and isinstance(error, IntegrityError):  # at COMMIT, too: some are deferred
                raise self.shadow.broken_reference(error) from error
            if placing or not self._rows:
                raise
            raise_database_failure(self.context, error)
            return 0, False
        return taken, True

    def _read(self, cursor: Cursor) -> int:
        with _uncollected():
            rows = read_page(cursor, self.read_model, self._size)
            faults.point("project.after_read")
            if rows:
                self._rows = rows
                with self.shadow.entered():
                    apply_projections(self.context, self.read_model, rows)
            return len(rows)

    def _live(self) -> Cursor:
        """Take the lock of the live read model, in the open transaction; wait for who has it."""
        deadline = time.monotonic() + _PATIENCE
        while (found := open_cursor(self.connection, self.context, self.read_model.name)) is None:
            if time.monotonic() > deadline:
                raise OutboxInboxError(
                    f"somebody has been at work on {self.read_model.name!r} for {_PATIENCE:.0f} s: "
                    "call the command again, which goes on from here"
                )
            time.sleep(0.02)
        return found

    @contextmanager
    def _locked(self, name: str) -> Iterator[Cursor]:
        with follow(self.context, name) as cursor:
            if cursor is None:
                raise OutboxInboxError(
                    f"another process is rebuilding {self.read_model.name!r} just now"
                )
            yield cursor


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the collector of cycles away from a page: it takes as long as all the rest.

    Events have no cycles, and thousands of them at once look to it like garbage to be searched.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
