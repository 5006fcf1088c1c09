"""What the author of a transport tells the suite: where it is, and what can be done to its server."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import wraps
from typing import Any, ClassVar, TypeVar, cast

import pytest
from django.test.utils import modify_settings, override_settings

from outbox_inbox.events import IntegrationEvent

from . import scene

ABILITIES: Mapping[str, str] = {
    "receive": "messages are received; it does not write into the inboxes itself",
    "outlive": "messages outlive the process that published them",
    "keep": "messages wait for a context that subscribes later",
    "refuse": "a single message can be refused while others are taken (`refused`)",
    "restart": "the server can be killed and started again (`restart`)",
    "stop": "the server can be out of reach for a while (`stopped`)",
    "hang": "the server can be silent without being gone (`hanging`)",
    "lose_answers": "an answer can be lost after a batch arrived (`losing_answers`)",
    "lose_acknowledgements": "so can the answer to an acknowledgement (`losing_acknowledgements`)",
}
"""What a case may ask for: the name -> what it means."""


Case = TypeVar("Case", bound=Callable[..., None])


def needs(*abilities: str) -> Callable[[Case], Case]:
    """Mark a case that only a transport with these abilities can pass."""

    def decorate(case: Case) -> Case:
        @wraps(case)
        def run(self: "Abilities", *arguments: Any, **named: Any) -> None:
            self.need(*abilities)
            case(self, *arguments, **named)

        vars(run)["needs"] = abilities  # to be asked for before anything is set up
        return cast(Case, run)

    return decorate


class Abilities:
    """The part of `TransportConformance` that the author of a transport fills in.

    Attributes:
        cannot: ability -> why this transport does not have it, as a sentence. Its cases are
            skipped with this reason. An ability that is neither implemented nor named here is a
            failure: nothing is left out by mistake. "receive", "outlive" and "keep" need no
            method.
        seconds: within which 10,000 messages have to be relayed and received by one subscriber.
    """

    cannot: ClassVar[Mapping[str, str]] = {}
    seconds: ClassVar[float] = 60

    broker: Any
    """What the fixture ``server`` has returned."""

    def transport(self) -> str | Mapping[str, Any]:
        """Return the entry of TRANSPORTS: a URL, or BACKEND, LOCATION and OPTIONS.

        Called once a test, after the fixture ``server``. What it names has to be empty: the test
        is the first to publish there.
        """
        raise NotImplementedError

    def settings(self) -> Mapping[str, Any]:
        """Return OUTBOX_INBOX for a test; override it when the transport alone does not say all."""
        return {"TRANSPORTS": {"default": self.transport()}}

    def refused(self) -> IntegrationEvent:
        """Return an event of the publisher with the topic "refused" that the transport refuses.

        It is one of `publisher.contracts`, and recording it works; publishing it never does.
        """
        raise NotImplementedError

    def restart(self) -> None:
        """Kill the server and start it again, with all that it had confirmed."""
        raise NotImplementedError

    def stopped(self) -> AbstractContextManager[Any]:
        """Have the server out of reach within a block: connections are refused, old ones end."""
        raise NotImplementedError

    def hanging(self) -> AbstractContextManager[Any]:
        """Have the server answer nothing within a block, while connections stay open."""
        raise NotImplementedError

    def losing_answers(self) -> AbstractContextManager[Any]:
        """Have a batch arrive and its confirmation lost within a block."""
        raise NotImplementedError

    def losing_acknowledgements(self) -> AbstractContextManager[Any]:
        """Have an acknowledgement arrive, and its answer or the connection lost within a block."""
        raise NotImplementedError

    def dying(self) -> AbstractContextManager[Any]:
        """Let nothing that a dying process still says reach the server, within a block.

        Optional. By default it may say good-bye (close a channel, give back what it has), which
        a process does not that is killed.
        """
        return nullcontext()

    @pytest.fixture
    def server(self) -> Any:
        """Return what the abilities act upon; override it to start or borrow the server."""
        return None

    @pytest.fixture
    def database(self, request: pytest.FixtureRequest) -> Any:
        """Give access to databases whose commits are real; by default pytest-django's way."""
        return request.getfixturevalue("transactional_db")

    @pytest.fixture(autouse=True)
    def _scene(self, request: pytest.FixtureRequest, server: Any, database: Any) -> Iterator[None]:
        """Set the scene for one test, unless it is none for this transport."""
        self.need(*getattr(request.function, "needs", ()))
        with self.staged(server):
            yield

    @contextmanager
    def staged(self, server: Any) -> Iterator[None]:
        """Install the three contexts within a block, with nothing in their queues."""
        self.broker = server
        with ExitStack() as stack:
            stack.enter_context(modify_settings(INSTALLED_APPS={"append": list(scene.APPS)}))
            stack.enter_context(override_settings(OUTBOX_INBOX=self.settings()))
            stack.enter_context(scene.quick_processes())
            scene.clear()
            yield
            scene.clear()

    @contextmanager
    def crashing(self, point: str) -> Iterator[None]:
        """Let the process die at a fault point, and go on as another."""
        with (
            ExitStack() as stack,
            scene.crashing(point, lambda: stack.enter_context(self.dying())),
        ):
            yield
        self.go_on_as_another()

    def go_on_as_another(self) -> None:
        """Go on as another process, where messages outlive the one that there was."""
        scene.fall_silent()
        if self.can("outlive"):
            scene.new_process()

    @contextmanager
    def configured(self, **changed: Any) -> Iterator[None]:
        """Change OUTBOX_INBOX within a block; the queues are empty before and after it."""
        scene.clear()
        with override_settings(OUTBOX_INBOX={**self.settings(), **changed}):
            yield
            scene.clear()
            scene.new_process()

    def can(self, ability: str) -> bool:
        """Tell whether the transport has an ability, or says that it has not."""
        assert ability in ABILITIES, f"no ability {ability!r}; there are {', '.join(ABILITIES)}"
        return ability not in self.cannot

    def need(self, *abilities: str) -> None:
        """Skip the case with the declared reason when the transport lacks an ability."""
        for ability in abilities:
            if not self.can(ability):
                pytest.skip(f"it cannot {ability}, as declared: {self.cannot[ability]}")
