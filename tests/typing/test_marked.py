"""mypy and pyright find wrong uses of the decorators, and have nothing to say about right ones."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = Path(__file__).with_name("marked.py")
EXPECTED = re.compile(r"# E: (?P<mypy>[\w-]+) / (?P<pyright>\w+)$")


def expected(checker: str) -> list[tuple[int, str]]:
    """Return line and code of each error that the samples announce for a checker."""
    lines = SAMPLES.read_text(encoding="utf-8").splitlines()
    found = ((number, EXPECTED.search(line)) for number, line in enumerate(lines, 1))
    return [(number, match[checker]) for number, match in found if match]


def output_of(*command: str, **environment: str) -> str:
    """Run a checker as a user of the package would: without its mypy plugins and settings."""
    done = subprocess.run(
        [sys.executable, "-m", *command, str(SAMPLES)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def test_mypy(tmp_path: Path) -> None:
    """Strict mypy reports exactly the wrong uses."""
    # A cache of its own: that of `make types` belongs to other settings.
    cache = f"--cache-dir={tmp_path}"
    output = output_of(
        "mypy",
        "--config-file=",
        "--strict",
        "--follow-imports=silent",
        "--output=json",
        cache,
        "--disable-error-code=empty-body",
    )
    errors = [json.loads(line) for line in output.splitlines()]
    found = [(each["line"], each["code"]) for each in errors if each["severity"] == "error"]
    assert found == expected("mypy")


def test_pyright() -> None:
    """Pyright reports exactly the wrong uses."""
    python = f"--pythonpath={sys.executable}"
    # Without the variable it would ask PyPI for a newer version of itself.
    output = output_of("pyright", "--outputjson", python, PYRIGHT_PYTHON_IGNORE_WARNINGS="1")
    errors = [
        each for each in json.loads(output)["generalDiagnostics"] if each["severity"] == "error"
    ]
    found = [(each["range"]["start"]["line"] + 1, each["rule"]) for each in errors]
    assert sorted(found) == expected("pyright")


def test_both_are_expected_to_find_something() -> None:
    """The comments are read."""
    assert len(expected("mypy")) == len(expected("pyright")) > 20
