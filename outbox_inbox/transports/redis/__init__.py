"""``redis://`` and ``rediss://``: contracts as entries of Redis Streams.

One stream for each publishing context (and partition of its outbox), one consumer group for each
subscribing context. ``docs/transports.md`` describes the format and the configuration of the server.
"""

from .transport import RedisTransport

__all__ = ["RedisTransport"]
