"""Taking the ledger out: the offline bundle, tables for people and programs, and the jobs that make them."""
