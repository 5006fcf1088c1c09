"""The subscribing context of the conformance suite."""
