"""The publishing context of the conformance suite."""
