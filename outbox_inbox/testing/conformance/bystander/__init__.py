"""A second subscribing context: what one subscriber does must not affect the other."""
