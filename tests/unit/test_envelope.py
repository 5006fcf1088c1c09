import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from uuid import RFC_4122, uuid4

import pytest

from outbox_inbox import Envelope
from outbox_inbox.events.envelope import Handling, current
from outbox_inbox.events.uuid7 import Clock, uuid7

MILLISECOND = 1_700_000_000_000


def envelope(**changes):
    """Return an envelope with what has no default."""
    required = {
        "id": uuid4(),
        "type": "ordering.order_placed",
        "version": 1,
        "source": "ordering",
        "time": datetime.now(UTC),
        "correlation_id": uuid4(),
        "data": '{"secret":1}',
    }
    return Envelope(**{**required, **changes})


def test_envelope_is_frozen():
    """An envelope cannot be changed."""
    with pytest.raises(AttributeError):
        envelope().key = "other"


def test_envelope_can_be_kept_in_a_set():
    """Envelopes have a hash, although their headers are a dict."""
    one = envelope(headers={"a": "b"})
    assert len({one, envelope(), one}) == 2


def test_envelope_does_not_show_its_data():
    """The repr of an envelope, which ends in logs, holds no payload."""
    assert "secret" not in repr(envelope())


def test_nothing_is_handled_outside_of_handlers():
    """Outside of a handler there is no current message."""
    assert current.get() is None


def test_current_message_is_of_its_own_thread():
    """The message that one thread handles is not the one of another."""
    token = current.set(Handling(envelope(), 1))
    seen = []
    thread = threading.Thread(target=lambda: seen.append(current.get()))
    thread.start()
    thread.join()
    current.reset(token)
    assert seen == [None]


def test_uuid7_version_and_variant():
    """Ids say that they are UUIDs of version 7 of the RFC's variant."""
    made = uuid7()
    assert (made.version, made.variant) == (7, RFC_4122)


def test_uuid7_begins_with_the_time():
    """The first 48 bits are the milliseconds since 1970."""
    before = time.time_ns() // 1_000_000
    assert before <= uuid7().int >> 80 <= time.time_ns() // 1_000_000 + 1


def test_uuid7_only_grows(monkeypatch):
    """Ids made within one millisecond are in the order in which they were made."""
    monkeypatch.setattr(time, "time_ns", lambda: (MILLISECOND + 10**9) * 1_000_000)
    made = [uuid7() for _ in range(10_000)]
    assert made == sorted(set(made))


def test_uuid7_grows_when_the_clock_goes_back(monkeypatch):
    """A clock that is set back does not make smaller ids."""
    before = uuid7()
    monkeypatch.setattr(time, "time_ns", lambda: MILLISECOND * 1_000_000)
    assert uuid7() > before


def test_uuid7_text_order_is_their_order():
    """The texts of ids sort as the ids do, since SQLite keeps them as text."""
    made = [uuid7() for _ in range(1_000)]
    assert list(map(str, made)) == sorted(map(str, made))


def test_uuid7_in_threads():
    """Threads never get the same id, and each gets growing ones."""
    made = [[] for _ in range(8)]

    def make(ids):
        ids.extend(uuid7() for _ in range(2_000))

    threads = [threading.Thread(target=make, args=(ids,)) for ids in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(ids == sorted(ids) for ids in made)
    assert len(set().union(*made)) == 16_000


FULL = 2**Clock.COUNTER_BITS - 1


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [((5, 100), (5, 900), (5, 101)), ((5, 100), (6, 7), (6, 7)), ((5, FULL), (5, 3), (6, 3))],
    ids=["within a millisecond", "a new millisecond", "a full counter"],
)
def test_clock_ticks(first, second, found):
    """Within a millisecond it counts on from a random start; without numbers left, the next begins."""
    clock = Clock()
    assert [clock.tick(*first), clock.tick(*second)] == [first, found]


FORK = """
import os
from outbox_inbox.events import uuid7 as ids

ids.uuid7()
with ids._clock.lock:            # as if another thread were just making an id
    child = os.fork()
    if child == 0:
        os._exit(0 if ids._clock.counter == 0 and ids.uuid7() else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_forked_process_has_a_clock_of_its_own():
    """A process forked in the middle of uuid7() neither hangs nor counts on from its parent."""
    run = [sys.executable, "-c", FORK]
    done = subprocess.run(run, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "0"
