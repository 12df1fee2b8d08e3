"""Which keys sign a ledger, in which epoch, and how far: what the notary, the pages and the commands share."""
