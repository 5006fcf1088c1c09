"""What the author of a transport fills in: its settings, and how to break its server."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import wraps
from typing import Any, ClassVar, TypeVar, cast

import pytest
from django.test.utils import modify_settings, override_settings

from outbox_inbox.events import IntegrationEvent
from outbox_inbox.testing import movers

from . import scene

ABILITIES: Mapping[str, str] = {
    "receive": "messages are received; the transport does not insert into the inboxes itself",
    "outlive": "messages outlive the process that published them",
    "keep": "messages wait for a context that subscribes later",
    "refuse": "a single message can be refused while others are taken (`refused`)",
    "restart": "the server can be killed and started again (`restart`)",
    "stop": "the server can be unreachable for a while (`stopped`)",
    "hang": "the server can stop answering while connections stay open (`hanging`)",
    "lose_answers": "an answer can be lost after a batch arrived (`losing_answers`)",
    "lose_acknowledgements": "the answer to an acknowledgement can be lost (`losing_acknowledgements`)",
}
"""What a case may need: name -> meaning."""


Case = TypeVar("Case", bound=Callable[..., None])


def needs(*abilities: str) -> Callable[[Case], Case]:
    """Mark a case that only a transport with these abilities can pass."""

    def decorate(case: Case) -> Case:
        @wraps(case)
        def run(self: "Adapter", *arguments: Any, **named: Any) -> None:
            self.need(*abilities)
            case(self, *arguments, **named)

        vars(run)["needs"] = abilities  # so that the case is skipped before anything is set up
        return cast(Case, run)

    return decorate


class Adapter:
    """The part of `TransportConformance` that the author of a transport fills in.

    Attributes:
        cannot: ability -> why this transport does not have it, as a sentence. Its cases are
            skipped with this reason. An ability that is neither implemented nor declared here
            fails its cases, so that none is skipped by mistake. "receive", "outlive" and "keep"
            have no method.
        seconds: the time limit for 10,000 messages to be relayed and received by one subscriber.
    """

    cannot: ClassVar[Mapping[str, str]] = {}
    seconds: ClassVar[float] = 60

    broker: Any
    """The value of the fixture ``server``."""

    def transport(self) -> str | Mapping[str, Any]:
        """Return the entry of TRANSPORTS: a URL, or BACKEND, LOCATION and OPTIONS.

        Called once in each test, after the fixture ``server``. The server must have no messages: the
        test is the first to publish there.
        """
        raise NotImplementedError

    def settings(self) -> Mapping[str, Any]:
        """Return OUTBOX_INBOX for a test; override it to add more settings than the transport."""
        return {"TRANSPORTS": {"default": self.transport()}}

    def refused(self) -> IntegrationEvent:
        """Return an event of the publisher with the topic "refused" that the transport refuses.

        It is one of `publisher.contracts`. Recording it works; publishing it is always refused.
        """
        raise NotImplementedError

    def restart(self) -> None:
        """Kill the server and start it again, with everything that it had confirmed."""
        raise NotImplementedError

    def stopped(self) -> AbstractContextManager[Any]:
        """Make the server unreachable within a block: open connections end, new ones are refused."""
        raise NotImplementedError

    def hanging(self) -> AbstractContextManager[Any]:
        """Stop the server from answering within a block, while connections stay open."""
        raise NotImplementedError

    def losing_answers(self) -> AbstractContextManager[Any]:
        """Let a published batch arrive within a block, and lose its confirmation."""
        raise NotImplementedError

    def losing_acknowledgements(self) -> AbstractContextManager[Any]:
        """Let an acknowledgement arrive within a block, and lose its answer or the connection."""
        raise NotImplementedError

    def dying(self) -> AbstractContextManager[Any]:
        """Cut the connection of a dying process to the server, within a block.

        Optional. By default the process may still close its channels and return messages, which a
        killed process does not do.
        """
        return nullcontext()

    @pytest.fixture
    def server(self) -> Any:
        """Return what the methods of this class act upon; override it to start the server."""
        return None

    @pytest.fixture
    def database(self, request: pytest.FixtureRequest) -> Any:
        """Give access to databases with real commits; the default is pytest-django's."""
        return request.getfixturevalue("transactional_db")

    @pytest.fixture(autouse=True)
    def _installed(
        self, request: pytest.FixtureRequest, server: Any, database: Any
    ) -> Iterator[None]:
        self.need(*getattr(request.function, "needs", ()))
        with self.staged(server):
            yield

    @contextmanager
    def staged(self, server: Any) -> Iterator[None]:
        """Install the three contexts within a block, with empty queues."""
        self.broker = server
        with ExitStack() as stack:
            stack.enter_context(modify_settings(INSTALLED_APPS={"append": list(scene.APPS)}))
            stack.enter_context(override_settings(OUTBOX_INBOX=self.settings()))
            stack.enter_context(scene.quick_processes())
            scene.clear_databases()
            yield
            scene.clear_databases()

    @contextmanager
    def crashing(self, point: str) -> Iterator[None]:
        """Let the process die at a fault point, and continue as another."""
        with (
            ExitStack() as stack,
            scene.crashing(point, lambda: stack.enter_context(self.dying())),
        ):
            yield
        self.continue_as_another()

    def continue_as_another(self) -> None:
        """Continue as another process, if messages outlive the one that published them."""
        movers.expire_runs()
        if self.can("outlive"):
            scene.new_process()

    @contextmanager
    def configured(self, **changed: Any) -> Iterator[None]:
        """Change OUTBOX_INBOX within a block; the queues are empty before and after it."""
        scene.clear_databases()
        with override_settings(OUTBOX_INBOX={**self.settings(), **changed}):
            yield
            scene.clear_databases()
            scene.new_process()

    def can(self, ability: str) -> bool:
        """Return whether the transport has an ability."""
        assert ability in ABILITIES, f"no ability {ability!r}; known: {', '.join(ABILITIES)}"
        return ability not in self.cannot

    def need(self, *abilities: str) -> None:
        """Skip the case with the declared reason when the transport lacks an ability."""
        for ability in abilities:
            if not self.can(ability):
                pytest.skip(f"it cannot {ability}, as declared: {self.cannot[ability]}")
