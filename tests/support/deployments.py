"""Processes of older code beside this one: within this process, and as real processes.

The cheap form swaps what this process has read of its contexts, and what it remembers of others; the
real one starts `tests.rollout`, a small project whose code an environment variable makes old or new.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

from django.apps import apps

from outbox_inbox.contexts import Consumer, Context, contexts, registry
from outbox_inbox.contexts.consumers import by_type
from outbox_inbox.inbox import unknown
from outbox_inbox.queues import interests
from outbox_inbox.streams import projecting
from tests.acceptance.store import Store

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE = 120  # seconds
_newest: list[Sequence[Context]] = []
"""What the code of this checkout has, while one block or several are other code."""


@dataclass(frozen=True, kw_only=True)
class OlderCode:
    """What another process's code lacks of this one's; see `running`.

    Fields:
        contexts: labels that it does not have.
        consumers: the last parts of names that it does not have.
        types: stored type names that none of its consumers and read models takes.
        versions: stored type name -> the newest version that its consumers and read models read.
        contracts: stored type names to which it does not subscribe.
    """

    contexts: Collection[str] = ()
    consumers: Collection[str] = ()
    types: Collection[str] = ()
    versions: Mapping[str, int] = field(default_factory=dict)
    contracts: Collection[str] = ()
    _memory: dict[str, Any] = field(default_factory=lambda: defaultdict(dict))

    def forget(self) -> None:
        """Be a process that has just begun."""
        self._memory.clear()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Be that process for the block; the settings must stay as they are.

        Within the block of another one it is a third process, and not an older one of that.
        """
        newest = _newest[0] if _newest else contexts()
        if self._memory.get("read") is not newest:
            self._memory.clear()
            self._memory["read"] = newest
            read = tuple(self._older(c) for c in newest if c.label not in self.contexts)
            by_label = {each.label: each for each in read}
            self._memory["state"] = registry._State(apps.app_configs, read, by_label)
        with ExitStack() as patches:
            patches.enter_context(patch.object(registry._State, "last", self._memory["state"]))
            for module, name in ((interests, "_confirmed"), (unknown, "_met")):
                patches.enter_context(patch.object(module, name, self._memory[name]))
            told = self._memory.setdefault("_told", set())
            patches.enter_context(patch.object(projecting, "_told", told))
            _newest.append(newest)
            patches.callback(_newest.pop)
            yield

    def _older(self, context: Context) -> Context:
        consumers = tuple(filter(None, map(self._less, context.all_consumers)))
        models = []
        for model in context.all_read_models:
            left = tuple(filter(None, map(self._less, model.consumers)))
            models.append(replace(model, consumers=left))
            lowered = MappingProxyType(self._lowered(models[-1].versions))
            models[-1].__dict__["versions"] = lowered
        subscribed = context.subscribed.difference(self.contracts)
        return replace(
            context,
            consumers=MappingProxyType({each.name: each for each in consumers}),
            all_consumers=consumers,
            read_models=MappingProxyType({each.name: each for each in models}),
            all_read_models=tuple(models),
            subscribed=subscribed,
            sources=frozenset(each.partition(".")[0] for each in subscribed),
            _by_type=by_type(consumers),
        )

    def _less(self, consumer: Consumer) -> Consumer | None:
        functions = []
        for each in consumer.functions:
            events = {name: cls for name, cls in each.events.items() if name not in self.types}
            if events:
                functions.append(replace(each, events=MappingProxyType(events)))
        if not functions or consumer.name.rpartition(".")[2] in self.consumers:
            return None
        made = replace(consumer, functions=tuple(functions))
        object.__setattr__(made, "versions", MappingProxyType(self._lowered(made.versions)))
        return made

    def _lowered(self, versions: Mapping[str, int]) -> dict[str, int]:
        return {name: min(each, self.versions.get(name, each)) for name, each in versions.items()}


class Fleet:
    """Processes of the old and of the new code of `tests.rollout`, on the same databases.

    Arguments:
        store: the database; ``other``: that of mail, if it is another.
        settings: further environment variables of all of them.
    """

    def __init__(self, store: Store, other: Store | None = None, **settings: str) -> None:
        self.store, self.other = store, other
        self._settings = {"DATABASE_URL": store.url, **settings}
        if other is not None:
            self._settings["OTHER_DATABASE_URL"] = other.url
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, code: str, *arguments: str, output: Path | None = None) -> subprocess.Popen:
        """Start ``python -m …`` with the code "old" or "new"."""
        environment = os.environ | self._settings
        environment |= {"DJANGO_SETTINGS_MODULE": "tests.rollout.settings", "ROLLOUT_CODE": code}
        with ExitStack() as files:
            to = subprocess.PIPE if output is None else files.enter_context(output.open("ab"))
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                env=environment,
                stdout=to,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running.append(process)
        return process

    def run(self, code: str, *arguments: str) -> str:
        """Run ``python -m …`` to its end, which must be a good one; return what it printed."""
        process = self.start(code, *arguments)
        printed, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, printed.decode()
        return printed.decode()

    def manage(self, code: str, *arguments: str) -> str:
        """Run a management command, as `run` does."""
        return self.run(code, "django", *arguments)

    def migrate(self, code: str) -> None:
        """Bring the databases to the tables and interests of this code."""
        for alias in ("default", "other") if self.other else ("default",):
            options = ("--run-syncdb", "--skip-checks", "--verbosity", "0", "--database", alias)
            self.manage(code, "migrate", *options)

    def end(self) -> None:
        """Kill what is left."""
        for process in self._running:
            kill(process)
        self._running.clear()

    @property
    def stores(self) -> list[Store]:
        """The databases."""
        return [each for each in (self.store, self.other) if each]

    def ledger(self) -> dict[tuple[str, str], list[int]]:
        """Return (consumer, key) -> the numbers of its effects, in the order of their commits."""
        found: dict[tuple[str, str], list[int]] = defaultdict(list)
        for table in ("shop_entry", "shop_line"):
            _add_effects(found, self.store, table)
        for table in ("mail_entry", "bank_entry"):
            _add_effects(found, self.other or self.store, table)
        return dict(found)

    def expected(self) -> dict[tuple[str, str], list[int]]:
        """Return the ledger that the recorded steps must come to."""
        found: dict[tuple[str, str], list[int]] = {}
        steps = self.store.query('SELECT "order", number, fresh FROM shop_step ORDER BY number')
        for order in {step[0] for step in steps}:
            mine = [(number, fresh) for key, number, fresh in steps if key == order]
            fresh = [number for number, new in mine if new]
            pairs = [2 * number + part for number, new in mine for part in range(1 + bool(new))]
            for consumer in ("placed", "listed", "audit", "watch", "paid"):
                found[consumer, order] = [number for number, _ in mine]
            found["both", order] = pairs
            if not self.store.url.startswith("mysql"):  # it keeps no read models
                found["line", order] = pairs
            for consumer in ("shipped", "booked"):
                if fresh:
                    found[consumer, order] = fresh
        return found

    def mix_and_kill(self, folder: Path, *, kills: int, most: int, seed: int) -> None:
        """Run workers and writers of both codes side by side, and kill and replace them at random.

        Arguments:
            most: effects that there may be between two kills; each comes after some have come.
            seed: printed, so that a run can be repeated.
        """
        sys.stdout.write(f"seed {seed}\n")
        chance = random.Random(seed)
        output = folder / "said.log"
        roles = [("old", WORKER), ("new", WORKER), ("old", WRITER), ("new", WRITER)]
        alive = [self.start(code, *role, output=output) for code, role in roles]
        self._wait_for_steps(output)
        for kill_number in range(kills):
            self._wait_for_effects(chance.randint(1, most), output)
            place = kill_number % len(roles) if kills < 2 * len(roles) else chance.randrange(4)
            kill(alive[place])
            # In both directions: a deployment, and its way back.
            code, role = {"old": "new", "new": "old"}[roles[place][0]], roles[place][1]
            roles[place] = code, role
            alive[place] = self.start(code, *role, output=output)
        self._wait_for_effects(most, output)
        for process in alive:
            kill(process)

    def _wait_for_effects(self, more: int, output: Path) -> None:
        before = self._effects()
        deadline = time.monotonic() + PATIENCE
        while self._effects() < before + more:
            assert time.monotonic() < deadline, output.read_text()[-3_000:]
            threading.Event().wait(0.05)

    def _wait_for_steps(self, output: Path) -> None:
        """Wait until both codes have recorded something."""
        deadline = time.monotonic() + PATIENCE
        while len(self.store.query("SELECT DISTINCT fresh FROM shop_step")) < 2:
            assert time.monotonic() < deadline, output.read_text()[-3_000:]
            threading.Event().wait(0.05)

    def _effects(self) -> int:
        return sum(map(len, self.ledger().values()))

    def finish(self, folder: Path) -> list[str]:
        """Let the new code come to the end of everything, alone; return what is wrong then."""
        output = folder / "said.log"
        worker = self.start("new", *WORKER, output=output)
        expected, effects, deadline = self.expected(), 0, time.monotonic() + PATIENCE
        # It may be a long backlog: it is given up only when nothing moves any more.
        while (found := self.ledger()) != expected and time.monotonic() < deadline:
            assert worker.poll() is None, output.read_text()[-3_000:]
            if sum(map(len, found.values())) > effects:
                effects, deadline = sum(map(len, found.values())), time.monotonic() + PATIENCE
            threading.Event().wait(0.2)
        worker.send_signal(signal.SIGTERM)
        worker.wait(PATIENCE)
        return list(_differences(self.ledger(), expected))


def _differences(
    found: Mapping[tuple[str, str], list[int]], expected: Mapping[tuple[str, str], list[int]]
) -> Iterator[str]:
    """Yield what was lost, was handled twice, or came out of order, of each consumer and key."""
    for name in sorted(found.keys() | expected.keys()):
        mine, wanted = found.get(name, []), expected.get(name, [])
        if lost := sorted(set(wanted) - set(mine)):
            yield f"{name} lost {lost[:5]}, {len(lost)} in all"
        if twice := sorted(number for number in set(mine) if mine.count(number) > 1):
            yield f"{name} handled twice {twice[:5]}"
        if made_up := sorted(set(mine) - set(wanted)):
            yield f"{name} handled what was not recorded: {made_up[:5]}"
        if inverted := [pair for pair in pairwise(mine) if pair[0] > pair[1]]:
            yield f"{name} handled out of order {inverted[:5]}"


WORKER = ("django", "run_contexts", "--interval", "0.05")
WRITER = ("tests.rollout.writer", "3", "0.02")


def _add_effects(found: dict[tuple[str, str], list[int]], store: Store, table: str) -> None:
    for consumer, key, number in store.query(
        f'SELECT consumer, "order", number FROM {table} ORDER BY id'
    ):
        found[consumer, key].append(number)


def kill(process: subprocess.Popen) -> None:
    """Kill a process as the kernel does, and wait for its end."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
