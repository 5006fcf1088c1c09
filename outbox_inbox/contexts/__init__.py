"""The contexts of the project: what each one declares, consumes, and where it is deployed.

Nothing is registered by importing this module. The contexts are read from the app registry and
OUTBOX_INBOX when they are first asked for, and again after either has changed; in between, every
question is a dictionary look-up.
"""

from .bounded_context import Context
from .consumers import Consumer, ConsumerFunction
from .declaring import ContextConfig
from .read_models import ReadModel
from .registry import context_of, contexts, get_context
from .router import ContextRouter

context = get_context  # An older name, which scripts still import.

__all__ = [
    "Consumer",
    "ConsumerFunction",
    "Context",
    "ContextConfig",
    "ContextRouter",
    "ReadModel",
    "context_of",
    "contexts",
    "get_context",
]
