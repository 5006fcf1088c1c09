"""A shell in which a test enters what the documentation asks its readers to enter."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DONE = "this block is done"
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> list[str]:
    """Return the commands in a text, block by block."""
    return _BLOCK.findall(text)


class Terminal:
    """A shell in the folder of the project, in which a test enters what a page says.

    Arguments:
        places: what stands in the text -> where the tests have it.
    """

    def __init__(self, places: dict[str, str]) -> None:
        self.places = places
        (home := {**os.environ}).pop("DJANGO_SETTINGS_MODULE", None)
        self._shell = subprocess.Popen(
            ["bash", "-e"],
            cwd=ROOT,
            env=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        # Whatever still runs would keep the output open, and us waiting for its end.
        self._do("trap 'kill -9 $(jobs -p) 2>/dev/null' EXIT")

    def enter(self, block: str) -> str:
        """Enter the commands of a block; return what was printed. Each of them must end well."""
        lines = block.splitlines()
        assert all(line.startswith("$ ") for line in lines), block
        return self._do("\n".join(self._placed(line.removeprefix("$ ")) for line in lines))

    def wait(self) -> int:
        """Wait for the last command in the background; return its exit status."""
        printed = self._do("wait $! && echo status $? || echo status $?")
        return int(printed.rpartition("status ")[2])

    def close(self) -> None:
        """End the shell, and what runs in its background."""
        self._shell.communicate("exit\n" if self._shell.poll() is None else None)

    def _placed(self, line: str) -> str:
        for written, found in self.places.items():
            line = line.replace(written, found)
        return line

    def _do(self, script: str) -> str:
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{script}\necho {DONE}\n")
        self._shell.stdin.flush()
        printed = []
        for line in self._shell.stdout:
            if line == f"{DONE}\n":
                return "".join(printed)
            printed.append(line)
        raise AssertionError("".join(printed))


@contextmanager
def two_terminals(places: dict[str, str]) -> Iterator[tuple[Terminal, Terminal]]:
    """Open two terminals for a block."""
    opened = Terminal(places), Terminal(places)
    yield opened
    for each in opened:
        each.close()
