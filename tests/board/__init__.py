"""A context of the tests that keeps read models from its stream."""
