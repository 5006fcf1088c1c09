"""A context that listens: the subscribing side of the conformance suite."""
