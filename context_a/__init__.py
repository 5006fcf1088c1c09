"""Ordering, a bounded context: takes orders, and knows what became of them. Event-sourced.

Read it in this order: `events`, `order`, `services` (what it does), `handlers`, `processes` (what it
watches over), `projections`, `models` (what it shows), `contracts`, `acl` (what it tells others, and
hears from them), `apps` (what it declares).
"""
