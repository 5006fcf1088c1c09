"""A context of the tests: one consumer of every sort, and a contract of its own."""
