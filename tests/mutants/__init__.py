"""Breakages made on purpose: each edit of the tables here breaks a promise, and a named test fails.

A test that passes with the code broken guards nothing. The tables (``*.toml``) name the edit, the promise
and the tests; ``python -m tests.mutants`` makes each edit in a copy of the tree and runs those tests.
"""
