"""A second context that listens: what one subscriber does is no matter of the other."""
