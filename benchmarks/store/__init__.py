"""The context of the benchmarks: purchases, and one consumer for each way of handling them."""
