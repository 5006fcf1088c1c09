"""A context that says things: the publishing side of the conformance suite."""
