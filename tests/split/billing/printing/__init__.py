"""The documents of billing."""
