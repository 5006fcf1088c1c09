"""A context of the tests: three steps of a field, with a translator of its own for each of them."""
