"""A plugin of pytest: writes each outcome to a file as it is known, and stops when all has failed.

A run that hangs is killed, so what is known must be written at once.
"""

import json
from pathlib import Path
from typing import TextIO

import pytest

from tests import services

OPTION = "--mutants-outcomes"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the file, and whether a run is over when each named test has failed."""
    parser.addoption(OPTION, help="write outcomes to this file, one JSON object a line")
    parser.addoption("--mutants-seeds", help="begin with the SQLite databases of this folder")
    parser.addoption("--mutants-stop", action="store_true", help="stop when each test has failed")


def pytest_configure(config: pytest.Config) -> None:
    """Write what happens in a run that was asked to."""
    if path := config.getoption(OPTION):
        config.pluginmanager.register(Outcomes(config, Path(path)))
        # Which servers do not answer is asked once a run of all entries, and takes seconds.
        services.missing = list
    if folder := config.getoption("--mutants-seeds"):
        from .seeds import use_seeds  # needs the settings

        use_seeds(Path(folder))


class Outcomes:
    """Writes the outcomes of a run."""

    def __init__(self, config: pytest.Config, path: Path) -> None:
        self.stops = bool(config.getoption("--mutants-stop"))
        self.left = set(config.args)
        self.file: TextIO = path.open("a", encoding="utf-8")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Write that a module cannot be imported."""
        if report.failed:
            self._write(report.nodeid, "not collected", 0, str(report.longrepr))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Write which test may be the one that hangs."""
        self._write(nodeid, "started", 0, "")

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write the outcome of each phase of a test."""
        reason = "" if report.passed else report.longreprtext
        self._write(report.nodeid, report.outcome, report.duration, reason)
        if report.failed:
            self.left -= {name for name in self.left if is_of(report.nodeid, name)}

    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        """Stop when there is nothing left to learn."""
        if self.stops and not self.left:
            item.session.shouldstop = "each named test has failed"

    def _write(self, test: str, outcome: str, seconds: float, reason: str) -> None:
        record = {"test": test, "outcome": outcome, "seconds": seconds, "reason": reason}
        print(json.dumps(record), file=self.file, flush=True)


def is_of(test: str, name: str) -> bool:
    """Return whether a test that ran is a named one, or the named one with parameters."""
    return test == name or test.startswith(f"{name}[")
