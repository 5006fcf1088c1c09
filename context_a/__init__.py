"""Ordering, a bounded context: takes orders, and follows them until they are shipped. Event-sourced.

Read it in this order:

- `events`, `order`, `services`: the domain events, the aggregate and the use cases;
- `handlers`, `projections`, `models`: what happens after an event, and the read models;
- `processes`: what ordering waits for;
- `contracts`, `acl`: what it publishes to other contexts, and what it understands of theirs;
- `apps`: what it declares.
"""
