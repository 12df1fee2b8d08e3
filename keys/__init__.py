"""The keys: their scopes, secrets, lifecycle, rotation, policy and verification."""
