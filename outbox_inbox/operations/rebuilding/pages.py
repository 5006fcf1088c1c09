"""Fills the copies of a read model page by page, then replaces the old rows by theirs.

Each step is a transaction that also saves the checkpoint of the rebuild: after a crash the next
call continues with the first event that the copies lack, and handles none twice.
"""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import IntegrityError, connections

from outbox_inbox.conf import faults
from outbox_inbox.conf.clock import monotonic
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
    delete_checkpoint,
    follow,
    open_cursor,
    take_over_checkpoint,
)

from .kept_ids import KeptIds
from .shadow_tables import shadow_of

REBUILD_SUFFIX = " (rebuild)"
"""Ends the name of the subscription that fills the copies; names given by users have no spaces."""

_PAGE = 5_000  # events of a transaction
_PATIENCE = 30.0  # seconds to wait for a worker that is updating the read model


class Rebuild:
    """The rebuild of one read model, a transaction a step."""

    def __init__(self, context: Context, read_model: ReadModel) -> None:
        self.context, self.read_model = context, read_model
        self.connection = connections[context.database]
        self.shadow = shadow_of(self.connection, read_model.models)
        self.name = read_model.name + REBUILD_SUFFIX
        self._checkpoint = 0  # its id, which is another one for each rebuild
        self._size = _PAGE  # events of the next page: fewer after one that failed
        self._doubtful = 0  # events of a page that failed and have not been handled since
        self._rows: list[StreamRow] = []  # the events that the projection is handling

    def begin(self, *, restart: bool) -> bool:
        """Create the copies, unless they exist; return whether they existed."""
        # The lock of the rebuild's own subscription: two processes would handle every event twice.
        with follow(self.context, self.name) as found:
            if (cursor := found) is None:
                raise self._busy()
            KeptIds(self.shadow).require()
            resumed = not restart and self.shadow.exists(cursor.id)
            if not resumed:
                self.shadow.drop()
                # Another checkpoint: copies that were filled up to the old one are never taken for it.
                delete_checkpoint(self.context, self.name)
                cursor = open_cursor(self.connection, self.context, self.name)
                if cursor is None:
                    raise self._busy()
                self.shadow.create(cursor.id)
            self._checkpoint = cursor.id
            return resumed

    def handle_page(self) -> tuple[int, bool]:
        """Handle one page; return how many events it had, and whether it was the last.

        Where the projection fails, the next page is half as long, down to the one event that it
        fails on: the events before that one are handled and kept.

        Raises:
            RebuildFailed: that event was reached.
        """
        self._rows = []
        try:
            with self._locked() as cursor:
                handled = self._project_page(cursor)
                cursor.save()
                faults.point("project.before_commit")
        except Exception as error:  # noqa: BLE001  raised once the page is one event
            self._shorten_next_page(error)
            return 0, False
        faults.point("project.after_commit")
        self._doubtful -= handled
        if self._doubtful <= 0:
            self._size, self._doubtful = _PAGE, 0
        return handled, cursor.caught_up

    def _shorten_next_page(self, error: Exception) -> None:
        """Halve the next page after one that failed, unless that was a single event."""
        if not self._rows:
            raise error
        raise_database_failure(self.context, error)
        if len(self._rows) == 1:
            raise self._rebuild_failure(self._rows[0], error) from error
        # Halving finds the event after a few pages; one transaction an event would take for ever.
        self._doubtful = max(self._doubtful, len(self._rows))
        self._size = len(self._rows) // 2

    def _rebuild_failure(self, row: StreamRow, error: Exception) -> RebuildFailed:
        stored = StoredEvent.objects.using(self.connection.alias).get(position=row.position)
        message = (
            f"the projection {self.read_model.name!r} failed on {place_of_event(row)}, id "
            f"{stored.message_id}: {error_line(error)}. The events before it are handled in the copy, "
            "and the live read model is unchanged. Correct the projection, and call the same command "
            "again, which continues with this event; or with --restart, if the correction changes "
            "the result of the events before it"
        )
        return RebuildFailed(message, row.position, row.type, stored.message_id)

    def swap(self) -> tuple[int, bool]:
        """Handle the remaining events, and replace the old rows by the new ones.

        Return how many events remained, and whether the rebuild is finished. It is not if the
        projection failed on an event that was recorded since the last page: then page by page again.
        """
        self._rows = []
        replacing = False
        try:
            with self._locked() as cursor:
                # Without this lock, a worker would update the old rows while they are replaced.
                live = self._lock_live()
                handled = self._project_page(cursor)
                while not cursor.caught_up:
                    handled += self._project_page(cursor)
                cursor.save()
                live.save()
                # All in one transaction: readers, and the next call after a crash, see either the
                # old rows with the old checkpoint or the new rows with the new one.
                replacing = True
                self._replace_rows()
                take_over_checkpoint(self.context, self.read_model.name, self.name)
                self.shadow.drop()
        except Exception as error:
            if replacing and isinstance(error, IntegrityError):  # also at COMMIT: some are deferred
                raise self.shadow.broken_reference(error) from error
            if replacing or not self._rows:
                raise
            raise_database_failure(self.context, error)
            return 0, False
        return handled, True

    def _replace_rows(self) -> None:
        shadow, ids = self.shadow, KeptIds(self.shadow)
        ids.store()
        for name in reversed(shadow.tables):
            shadow.execute(f"DELETE FROM {shadow.quoted(name)}")
        for name in shadow.tables:
            columns, values, source = ids.selection(name)
            shadow.execute(
                f"INSERT INTO {shadow.quoted(name)} ({', '.join(columns)})"
                f" SELECT {', '.join(values)} FROM {source}"
            )
        shadow.advance_sequences()
        ids.drop()

    def _project_page(self, cursor: Cursor) -> int:
        with _without_gc():
            rows = read_page(cursor, self.read_model, self._size)
            if cursor.left and not rows:
                raise OutboxInboxError(
                    f"{self.read_model.name!r} wants {cursor.left.type} of version "
                    f"{cursor.left.schema_version}, which the code of this process cannot apply: "
                    "rebuild it with the newer code, or run manage.py retire_consumer if that is gone"
                )
            faults.point("project.after_read")
            if rows:
                self._rows = rows
                with self.shadow.active():
                    apply_projections(self.context, self.read_model, rows)
            return len(rows)

    def _lock_live(self) -> Cursor:
        """Lock the live read model in the open transaction; wait for the worker that holds the lock."""
        deadline = monotonic() + _PATIENCE
        while (
            found := open_cursor(self.connection, self.context, self.read_model.name, replaced=True)
        ) is None:
            if monotonic() > deadline:
                raise OutboxInboxError(
                    f"a worker has been updating {self.read_model.name!r} for {_PATIENCE:.0f} s: call "
                    "the command again, which continues from here"
                )
            time.sleep(0.02)
        return found

    @contextmanager
    def _locked(self) -> Iterator[Cursor]:
        with follow(self.context, self.name) as cursor:
            if cursor is None:
                raise self._busy()
            # Without its copies, the projection would write to the live tables.
            if cursor.id != self._checkpoint or not self.shadow.exists(cursor.id):
                raise OutboxInboxError(
                    f"another process has finished the rebuild of {self.read_model.name!r}, or begun "
                    "it anew: nothing more was done here"
                )
            yield cursor

    def _busy(self) -> OutboxInboxError:
        return OutboxInboxError(
            f"another process is rebuilding {self.read_model.name!r} at the moment"
        )


@contextmanager
def _without_gc() -> Iterator[None]:
    """Switch the garbage collector off for a page: it would take as long as all the rest.

    Thousands of new objects make it run again and again, and events have no reference cycles.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
