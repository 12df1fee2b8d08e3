"""The tamper-evident ledger, its notary and proofs, and what reads it."""
