"""Webhooks: an organization's endpoints hear of its ledger's entries (spec EVENTS, Webhooks).

Pure: `patterns`, `schedule`, `signing`, `body`, `address`, `networks`. Outward: `guard` says where a delivery may go,
`sending` goes there. `expansion` makes deliveries of entries, `claims` hands them out and takes their outcome,
`running` does it all for as long as there is something to do.
"""
