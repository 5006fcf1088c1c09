"""Copies of the tree, one for each job, in which an edit can be made and taken back.

Nothing is ever edited in the tree itself: a run that is killed would leave it broken.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

from .source import Edit
from .table import ROOT


class Tree:
    """A copy of the tree, the number of its job, and the databases that all jobs begin with."""

    def __init__(self, root: Path, number: int, seeds: Path) -> None:
        self.root = root
        self.seeds = seeds
        self.number = number
        self._edits = 0

    @contextmanager
    def edited(self, edit: Edit) -> Iterator[None]:
        """Make an edit, and take it back.

        Python takes a compiled module for current that was made from a source of the same size and the
        same second. So each edit gets a time of its own.
        """
        path = self.root / edit.file
        before, found = path.read_bytes(), path.stat()
        self._edits += 1
        path.write_text(edit.text, encoding="utf-8")
        os.utime(path, (found.st_atime, found.st_mtime + self._edits))
        try:
            yield
        finally:
            path.write_bytes(before)
            os.utime(path, (found.st_atime, found.st_mtime))


@contextmanager
def trees(count: int) -> Iterator[SimpleQueue[Tree]]:
    """Make copies of the files that git knows or would add, and remove them afterwards."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    files = [Path(each) for each in listed.split("\0") if each]
    free: SimpleQueue[Tree] = SimpleQueue()
    with TemporaryDirectory(prefix="mutants-") as folder:
        (seeds := Path(folder) / "seeds").mkdir()
        for number in range(count):
            root = Path(folder) / str(number)
            for file in files:
                if (ROOT / file).is_file() and not (ROOT / file).is_symlink():
                    (root / file).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(ROOT / file, root / file)
            (root / ".venv").symlink_to((ROOT / ".venv").resolve())
            free.put(Tree(root, number, seeds))
        yield free
