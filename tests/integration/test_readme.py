"""The README is true: its steps are executed, in a new Django project outside this one."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WITH_CELERY = "mysite/settings_with_celery.py"
STEP = re.compile(r"^### (\d)\. ", re.MULTILINE)

pytestmark = pytest.mark.sqlite  # the new project brings its own database


def steps() -> list[str]:
    """Return the text of each numbered step of "Plugging it into your project"."""
    section = README.split("## Plugging it into your project")[1].split("\n## ")[0]
    return STEP.split(section)[2::2]


@dataclass
class Newcomer:
    """A reader who follows the README to the letter, in a project of their own."""

    home: Path
    settings: str = "mysite.settings"

    def run(self, *command: str, entered: str | None = None) -> str:
        """Run a command of the README; it must end well, and Django's without warnings."""
        strict = ["-W", "error"] if command[0] == "manage.py" else []
        own = {"PYTHONPATH": str(self.home / "site"), "DJANGO_SETTINGS_MODULE": self.settings}
        ran = subprocess.run(
            [sys.executable, *strict, *command],
            cwd=self.home,
            env=os.environ | own,
            input=entered,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert ran.returncode == 0, f"{' '.join(command)}\n{ran.stdout}{ran.stderr}"
        return ran.stdout + ran.stderr

    def follow(self, step: str) -> str:
        """Do what a step says, block by block; return what the commands printed."""
        return "".join(self._do(kind, text) for kind, text in BLOCK.findall(step))

    def _do(self, kind: str, text: str) -> str:
        if kind == "console":
            lines = [line.removeprefix("$ ") for line in text.splitlines()]
            return "".join(self._command(shlex.split(line)) for line in lines)
        place, _, code = text.partition("\n")
        place = place.removeprefix("# ")
        if place == "in the shell":
            return self.run("manage.py", "shell", entered=code)
        if place == "mysite/settings.py (add, with Celery)":
            # Who has Celery adds it; the next steps are those of a project without.
            place, code = WITH_CELERY, f"from .settings import *\n\n{code}"
        path = self.home / place.removesuffix(" (add)")
        with path.open("a" if place.endswith(" (add)") else "w", encoding="utf-8") as file:
            file.write(code)
        return ""

    def _command(self, words: list[str]) -> str:
        if words[:2] == ["pip", "install"]:
            # From this clone instead of from a registry, as the wheel that would be there.
            assert words[2:] == ["outbox-inbox"]
            options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
            return self.run("-m", "pip", "install", *options, "--target", "site", str(ROOT))
        assert words[0] == "python", words
        return self.run(*words[1:])


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Newcomer:
    """A project as `startproject` and `startapp` make it, and a reader of the README."""
    found = Newcomer(tmp_path_factory.mktemp("newcomer"))
    django = [sys.executable, "-m", "django"]
    for command in (
        ["startproject", "mysite", "."],
        ["startapp", "shop"],
        ["startapp", "warehouse"],
    ):
        subprocess.run([*django, *command], cwd=found.home, check=True)
    return found


@pytest.fixture(scope="module")
def printed(newcomer: Newcomer) -> list[str]:
    """What the commands of each step printed."""
    return [newcomer.follow(step) for step in steps()]


def test_there_are_five_steps() -> None:
    """The README promises five steps and has them."""
    assert len(steps()) == 5


def test_the_steps_lead_from_a_new_project_to_a_passing_test(printed: list[str]) -> None:
    """Who follows every step ends with one shipment, seen by the newcomer's own test."""
    assert "Ran 1 test" in printed[4]


def test_the_checks_of_a_newcomer_find_nothing(printed: list[str]) -> None:
    """`manage.py check` has no complaint about what the README tells to write."""
    assert "System check identified no issues" in printed[3]


def test_the_schedule_of_celery_goes_into_the_settings(
    newcomer: Newcomer, printed: list[str]
) -> None:
    """Settings are loaded before models, and the checks find the entries in them."""
    assert printed
    with_celery = replace(newcomer, settings="mysite.settings_with_celery")
    shown = with_celery.run("manage.py", "check", "--fail-level", "DEBUG")
    assert "no issues" in shown


def test_the_drained_queues_are_empty(newcomer: Newcomer, printed: list[str]) -> None:
    """After the four drains of the last step nothing is left in any queue."""
    assert printed
    assert "shipment" not in newcomer.run("manage.py", "queue_stats", "--format", "json")


def test_the_message_reached_the_other_context(newcomer: Newcomer, printed: list[str]) -> None:
    """What was recorded in the shell has become a shipment in the other context."""
    assert printed
    count = "from warehouse.models import Shipment; print(Shipment.objects.count())"
    assert newcomer.run("manage.py", "shell", "-c", count).strip().endswith("1")
