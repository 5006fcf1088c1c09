"""The clock for waits and deadlines goes on in a test that has stopped the time."""

import ast
from pathlib import Path

import pytest
import time_machine
from freezegun import freeze_time

import outbox_inbox
from outbox_inbox.conf.clock import monotonic
from outbox_inbox.queues import outcome

STOPPED = pytest.mark.parametrize(
    "stopped",
    [lambda: freeze_time("2026-01-01"), lambda: time_machine.travel("2026-01-01", tick=False)],
    ids=["freezegun", "time-machine"],
)
PACKAGE = Path(outbox_inbox.__file__).parent
CLOCK = PACKAGE / "conf" / "clock.py"
STOPPABLE = {"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "time"}


@STOPPED
@pytest.mark.timeout(20)
def test_it_goes_on_in_a_stopped_test(stopped):
    """Else the loop below never ends."""
    with stopped():
        begin = monotonic()
        while monotonic() == begin:
            pass


@STOPPED
@pytest.mark.timeout(20)
def test_it_goes_on_for_a_module_that_has_imported_it(stopped):
    """The modules of the app import the function, and keep it although the test stops the time."""
    with stopped():
        begin = outcome.monotonic()
        while outcome.monotonic() == begin:
            pass


def uses(path):
    """Yield the clocks of Python that a module names, with the line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            names = [each.name for each in node.names]
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "time":
            names = [node.attr]
        else:
            continue
        for name in STOPPABLE.intersection(names):
            yield f"{path.relative_to(PACKAGE)}:{node.lineno}: {name}"


def test_no_other_module_asks_a_clock_that_a_test_can_stop():
    """Not in a wait, not in a deadline, and not in a figure for a person."""
    found = [each for path in sorted(PACKAGE.rglob("*.py")) if path != CLOCK for each in uses(path)]
    assert found == []
