"""The outside world: customers and a warehouse that use the two contexts.

It belongs to neither context, and calls only what they offer: their use cases (`services`) and
read models. The commands `place_orders` and `demo` are thin around it.
"""
