"""A context of the tests that subscribes to the farm, with a translator for each of its contracts."""
