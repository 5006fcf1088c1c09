"""What relay, receiver and dispatcher share: partitions and their lock, attempts, nudges, statements."""
