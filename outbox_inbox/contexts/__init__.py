"""The contexts of the project: what each one declares, consumes, and where it is deployed.

Nothing is registered by importing this module. The contexts are read from the app registry and
OUTBOX_INBOX when they are first asked for, and again after either has changed; in between, every
question is a dictionary look-up.
"""

from .consumers import Consumer
from .context import Context
from .declaring import ContextConfig
from .read_models import ReadModel
from .registry import context_of, contexts, get_context

__all__ = [
    "Consumer",
    "Context",
    "ContextConfig",
    "ReadModel",
    "context_of",
    "contexts",
    "get_context",
]
