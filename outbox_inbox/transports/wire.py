"""The wire format between contexts: a CloudEvents 1.0 event in binary mode.

The attributes travel beside the payload, which is carried byte for byte as it was recorded. Each
transport puts its protocol's prefix before the names.

==============  ==================================================================================
specversion     ``1.0``
id              the message id
source          ``/`` and the label of the publishing context
type            name and version of the contract, such as ``ordering.order_placed.v1``
subject         the key; absent without one
partitionkey    the key again, where the partitioning extension of CloudEvents looks for it
time            when it was recorded, RFC 3339 in UTC
correlationid   one for a whole conversation
causationid     the message that caused this one; absent for the first of a conversation
hops            how many messages led to it; absent for 0
headers         the headers as JSON; absent when there are none
traceparent     from the headers, where tracing tools look for it; tracestate as well
keyid           the id of the key it is signed with; absent, as is ``signature``, without signing
==============  ==================================================================================
"""

import json
from datetime import UTC, datetime
from typing import Final

from outbox_inbox.contexts import Context
from outbox_inbox.queues.contents import TRACING

from .base import OutgoingMessage
from .signing import sign_message

SPECVERSION: Final = "1.0"
CONTENT_TYPE: Final = "application/json"
NO_HEADERS: Final = "{}"
ATTRIBUTES: Final = (
    *("specversion", "id", "source", "type", "subject", "partitionkey", "time", "datacontenttype"),
    *("correlationid", "causationid", "hops", "headers", *TRACING),
)
"""The names of all attributes that a message of this app may have."""


def attributes_of(source: Context, message: OutgoingMessage) -> dict[str, str]:
    """Return the attributes of a message, by name."""
    found = {
        "specversion": SPECVERSION,
        "id": str(message.id),
        "source": f"/{source.label}",
        "type": type_of(message.type, message.version),
        "time": timestamp(message.time),
        "datacontenttype": CONTENT_TYPE,
        "correlationid": str(message.correlation_id),
    }
    if message.key is not None:
        found["subject"] = found["partitionkey"] = message.key
    if message.causation_id is not None:
        found["causationid"] = str(message.causation_id)
    if message.hops:
        found["hops"] = str(message.hops)
    if message.headers != NO_HEADERS:
        headers = json.loads(message.headers)
        found["headers"] = message.headers
        found |= {name: headers[name] for name in TRACING if name in headers}
    if source.signing is not None:
        sign_message(source.signing, found, message.data.encode())
    return found


def type_of(name: str, version: int) -> str:
    """Return the type of a contract's version."""
    return f"{name}.v{version}"


def timestamp(time: datetime) -> str:
    """Return an aware datetime as RFC 3339 in UTC, to the microsecond."""
    if time.tzinfo is not UTC:
        time = time.astimezone(UTC)
    return f"{time.isoformat('T', 'microseconds')[:-6]}Z"
