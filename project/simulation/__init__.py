"""The example's customers and warehouse, simulated: they use the two contexts from outside.

The simulation belongs to neither context, and uses only what they offer: their use cases
(`services`) and read models. It is what the commands `place_orders` and `demo` run.
"""
