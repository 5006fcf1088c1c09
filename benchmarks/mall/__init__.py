"""The context that publishes: its contract goes out through a broker."""
