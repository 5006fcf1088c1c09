"""Shipping, a bounded context: books shipments for orders and dispatches them. Plain Django models.

It could be another team's service: it knows three contracts of ordering, and imports no code of it.

Read it in this order:

- `models`, `services`: its state and its use case;
- `events`, `handlers`: its domain events, and what happens after them;
- `contracts`, `acl`: what it publishes to other contexts, and what it understands of theirs;
- `apps`: what it declares.
"""
