import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.db import OperationalError, connection

import outbox_inbox
from outbox_inbox.conf import faults
from outbox_inbox.conf.faults import Disconnected, FaultInjected, armed, point
from outbox_inbox.exceptions import OutboxInboxError, SettingsError

POINT = "relay.after_mark"


@pytest.fixture(autouse=True)
def disarmed(monkeypatch):
    """Begin and end without faults, in an environment that says nothing of them."""
    monkeypatch.delenv("OUTBOX_INBOX_FAULTS", raising=False)
    monkeypatch.delenv("OUTBOX_INBOX_ALLOW_FAULTS", raising=False)
    with armed(""):
        yield


@pytest.fixture
def slept(monkeypatch):
    """The seconds of each sleep that was asked for; no test sleeps."""
    seconds = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


def strikes(hits, name=POINT):
    """Hit a point so many times; return the numbers of the hits at which it raised."""
    found = []
    for number in range(1, hits + 1):
        try:
            point(name)
        except FaultInjected:
            found.append(number)
    return found


def child(spec):
    """Start a process that hits an armed point, and says so if it lives on."""
    code = (
        f"from outbox_inbox.conf.faults import armed, point\n"
        f"with armed({spec!r}):\n    point({POINT!r})\nprint('alive')"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


# -------------------------------------------------------------------------------------- the points


def test_every_point_is_hit_somewhere():
    """The points that can be named in a specification are those that the code passes."""
    root = Path(outbox_inbox.__file__).parent
    text = "".join(path.read_text() for path in root.rglob("*.py"))
    known = faults.ALL_POINTS
    assert set(re.findall(r"faults\.point\(\"(.+?)\"\)", text)) == known


def test_point_without_faults():
    """A point with nothing armed does nothing."""
    assert strikes(3) == []


def test_cost_of_a_point_without_faults(monkeypatch):
    """A point with nothing armed costs one look-up in a dictionary."""
    asked = []

    class Asked(dict):
        def get(self, key):
            asked.append(key)

    monkeypatch.setattr(faults, "_armed", Asked())
    point(POINT)
    assert asked == [POINT]


def test_only_the_armed_point_strikes():
    """Other points than the armed one do nothing."""
    with armed(f"{POINT}:raise"):
        assert strikes(1, "relay.before_mark") == []


# ----------------------------------------------------------------------------------------- actions


def test_raise():
    """The action raise raises FaultInjected, which names the point."""
    with armed(f"{POINT}:raise"), pytest.raises(FaultInjected, match=POINT):
        point(POINT)


def test_injected_fault_is_an_error_of_the_app():
    """FaultInjected is under the root of the app's errors."""
    assert issubclass(FaultInjected, OutboxInboxError)


@pytest.mark.parametrize(("value", "seconds"), [("5", 5.0), ("0.25", 0.25)])
def test_sleep(slept, value, seconds):
    """The action sleep waits for so many seconds."""
    with armed(f"{POINT}:sleep={value}"):
        point(POINT)
    assert slept == [seconds]


def test_kill():
    """The action kill is a SIGKILL to the process itself: nothing more is run."""
    process = child(f"{POINT}:kill")
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (-signal.SIGKILL, "")


def test_stop():
    """The action stop freezes the process until it gets SIGCONT; then it goes on."""
    process = child(f"{POINT}:stop")
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    process.send_signal(signal.SIGCONT)
    said, _ = process.communicate(timeout=60)
    assert (os.WIFSTOPPED(status), said) == (True, "alive\n")


@pytest.mark.sqlite
@pytest.mark.django_db
def test_disconnect_without_a_socket():
    """On a database without a socket, disconnect raises what a lost connection would."""
    connection.ensure_connection()
    with armed(f"{POINT}:disconnect"), pytest.raises(OperationalError, match=POINT) as raised:
        point(POINT)
    assert isinstance(raised.value, Disconnected)


@pytest.mark.server
@pytest.mark.django_db(transaction=True)
def test_disconnect():
    """The next statement finds its connection lost; a connection that is lost is left alone."""
    connection.ensure_connection()
    with armed(f"{POINT}:disconnect"):
        point(POINT)
        with pytest.raises(OperationalError), connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        point(POINT)
    connection.close()


def wrappers(monkeypatch, *given):
    """Let Django have these connections, of which only those with one of a driver are open."""
    found = [SimpleNamespace(**each) for each in given]
    all_of = SimpleNamespace(all=lambda initialized_only: found)
    monkeypatch.setattr(faults, "connections", all_of)


def test_disconnect_without_connections(monkeypatch):
    """Where no connection is open there is none to lose."""
    wrappers(monkeypatch, {"connection": None})
    with armed(f"{POINT}:disconnect"):
        point(POINT)


def test_disconnect_leaves_the_descriptor_to_its_owner(monkeypatch):
    """The socket is shut down and not closed: its number must not go to another file."""
    ours, theirs = socket.socketpair()
    facts = {"vendor": "some", "connection": ours, "wrap_database_errors": nullcontext()}
    wrappers(monkeypatch, facts)
    with ours, theirs, armed(f"{POINT}:disconnect"):
        point(POINT)
        assert (theirs.recv(1), os.fstat(ours.fileno()).st_ino > 0) == (b"", True)


# -------------------------------------------------------------------------------------------- when


@pytest.mark.parametrize(("when", "hits"), [("", [1, 2, 3, 4]), ("@3", [3]), ("@p1", [1, 2, 3, 4])])
def test_when_a_fault_strikes(when, hits):
    """Without @ at every hit, with @3 at the third hit only, with @p1 at every one."""
    with armed(f"{POINT}:raise{when}"):
        assert strikes(4) == hits


def test_several_faults_at_one_point(slept):
    """A point may have several faults, each with hits of its own."""
    with armed(f"{POINT}:raise@2,{POINT}:raise@4,{POINT}:sleep=1@3"):
        assert (strikes(5), slept) == ([2, 4], [1.0])


def test_probability():
    """@p0.2 strikes at about a fifth of the hits."""
    with armed(f"{POINT}:raise@p0.2,seed=7"):
        assert 150 < len(strikes(1_000)) < 250


def test_seed_repeats_a_run():
    """With the same seed, faults strike at the same hits, whatever the other points do."""
    runs = []
    for others in (0, 50):
        with armed(f"{POINT}:raise@p0.5,relay.before_mark:raise@p0.5,seed=7"):
            strikes(others, "relay.before_mark")
            runs.append(strikes(40))
    assert runs[0] == runs[1]


def test_other_seed_is_another_run():
    """With another seed, faults strike at other hits."""
    runs = []
    for seed in (7, 8):
        with armed(f"{POINT}:raise@p0.5,seed={seed}"):
            runs.append(strikes(40))
    assert runs[0] != runs[1]


def test_random_seed_is_logged(caplog):
    """Without a seed, the log has the one with which the run can be repeated."""
    with caplog.at_level(logging.WARNING), armed(f"{POINT}:raise@p0.5"):
        first = strikes(40)
    seed = re.search(r"seed=(\d+)", caplog.text)[1]
    with armed(f"{POINT}:raise@p0.5,seed={seed}"):
        assert strikes(40) == first


# ------------------------------------------------------------------------------------------ arming


def test_arming_reads_the_environment(monkeypatch, settings):
    """Faults are taken from OUTBOX_INBOX_FAULTS when the process starts."""
    settings.DEBUG = True
    monkeypatch.setenv("OUTBOX_INBOX_FAULTS", f" {POINT}:raise@1 , ")
    faults.arm()
    assert strikes(2) == [1]


def test_arming_without_faults(settings):
    """Without the variable nothing is armed, and DEBUG does not matter."""
    settings.DEBUG = False
    faults.arm()
    assert strikes(1) == []


def test_faults_in_production(settings):
    """With DEBUG off, faults are refused when the process starts, and none is armed."""
    settings.DEBUG = False
    with pytest.raises(SettingsError, match=r"DEBUG is off.* OUTBOX_INBOX_ALLOW_FAULTS=1"):
        faults.arm(f"{POINT}:raise")
    assert strikes(1) == []


def test_faults_where_they_are_allowed(monkeypatch, settings):
    """OUTBOX_INBOX_ALLOW_FAULTS=1 allows faults with DEBUG off."""
    settings.DEBUG = False
    monkeypatch.setenv("OUTBOX_INBOX_ALLOW_FAULTS", "1")
    faults.arm(f"{POINT}:raise")
    assert strikes(1) == [1]


def test_arming_again_begins_anew(settings):
    """What was armed before is forgotten, and hits are counted from one."""
    settings.DEBUG = True
    faults.arm(f"{POINT}:raise,relay.before_mark:raise")
    faults.arm(f"{POINT}:raise@2")
    assert (strikes(3), strikes(1, "relay.before_mark")) == ([2], [])


def test_disarming(settings):
    """An empty specification disarms everything."""
    settings.DEBUG = True
    faults.arm(f"{POINT}:raise")
    faults.arm("")
    assert strikes(1) == []


def test_armed_puts_back_what_was():
    """After the block, what was armed before is armed again."""
    with armed(f"{POINT}:raise"):
        with armed("relay.before_mark:raise"):
            pass
        assert strikes(1) == [1]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("relay.nowhere:raise", "no point 'relay.nowhere'; the points are dispatch.after_claim, "),
        (f"{POINT}:explode", "no action 'explode'; the actions are kill, stop, raise, sleep, disc"),
        (POINT, "expected point:action, point:action@3 or point:action@p0.01"),
        (f"{POINT}:", "expected point:action"),
        (f"{POINT}:sleep", "sleep takes a number of seconds, such as sleep=5"),
        (f"{POINT}:sleep=-1", "sleep takes a number of seconds"),
        (f"{POINT}:sleep=nan", "sleep takes a number of seconds"),
        (f"{POINT}:kill=9", "kill takes no value"),
        (f"{POINT}:raise@0", "@0 is neither a hit .* nor a probability"),
        (f"{POINT}:raise@", "@ is neither a hit"),
        (f"{POINT}:raise@often", "@often is neither a hit"),
        (f"{POINT}:raise@p0", "@p0 is neither a hit"),
        (f"{POINT}:raise@p1.5", "@p1.5 is neither a hit"),
        (f"{POINT}:raise@p", "@p is neither a hit"),
        (f"{POINT}:raise,seed=x", "the seed must be one whole number, such as seed=7, not x"),
        (
            f"{POINT}:raise,seed=1,seed=2",
            "the seed must be one whole number, such as seed=7, not 1, 2",
        ),
        ("relay.nowhere:raise,relay.x:raise", "relay.nowhere.*relay.x"),
    ],
)
def test_malformed_specification(spec, message):
    """A mistake is refused with what is known instead; all mistakes at once."""
    with pytest.raises(SettingsError, match=message), armed(spec):
        pass
