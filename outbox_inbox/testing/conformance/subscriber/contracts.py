"""The subscriber's own view of the publisher's contracts."""

from outbox_inbox import IntegrationEvent


class Said(IntegrationEvent, name="conformance_publisher.said", key="topic"):
    """Something was said."""

    topic: str
    number: int


class Murmured(IntegrationEvent, name="conformance_publisher.murmured"):
    """Something was said in no order."""

    topic: str
    number: int
