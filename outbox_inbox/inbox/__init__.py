"""The inbox of a context: messages received from outside, and their deliveries to consumers."""
