"""The contracts of the publisher."""

from outbox_inbox import IntegrationEvent


class Said(IntegrationEvent, name="conformance_publisher.said", key="topic"):
    """Something was said; what is said of one topic has an order."""

    topic: str
    number: int
    text: str = ""


class Murmured(IntegrationEvent, name="conformance_publisher.murmured"):
    """Something was said without a key, and so in no order."""

    topic: str
    number: int
    text: str = ""


class Whispered(IntegrationEvent, name="conformance_publisher.whispered", key="topic"):
    """Something was said that no context subscribes to."""

    topic: str
    number: int
    text: str = ""
