"""The context that subscribes, with one consumer."""
