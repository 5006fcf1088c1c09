"""What the app costs, measured against bare loops that do the same work: ``python -m benchmarks``."""
