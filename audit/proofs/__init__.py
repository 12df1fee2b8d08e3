"""Proofs of what is in a ledger: making and reading them, following one by hand, checking without us."""
