"""``memory://`` is a broker within one process, and is held to what that can promise."""

from typing import ClassVar

from tests.conformance.conftest import Committed


class TestMemory(Committed):
    cannot: ClassVar = {
        "outlive": "it ends with the process that published",
        "refuse": "it takes whatever it is given",
        "restart": "there is no server but this process",
        "stop": "there is no server but this process",
        "hang": "there is no server but this process",
        "lose_answers": "an answer is the return of a function",
        "lose_acknowledgements": "an answer is the return of a function",
    }

    def transport(self):
        """Return the URL."""
        return "memory://"
