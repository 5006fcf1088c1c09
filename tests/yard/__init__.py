"""A context of the tests that watches over deals by a process."""
