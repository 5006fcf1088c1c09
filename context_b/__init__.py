"""Shipping, a bounded context: books shipments for orders and sends them off. Plain Django models.

It could be another team's service: it knows ordering by two contracts, and imports none of it.

Read it in this order: `models`, `services`, `events`, `handlers` (what it does), `contracts`,
`acl` (what it tells others, and hears from them), `apps` (what it declares).
"""
