"""`./dev demo --traffic`: a rotation without downtime, driven by collectors in three regions, told by a webhook."""
