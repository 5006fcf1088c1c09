"""A context of the tests that subscribes to the shop's contract."""
