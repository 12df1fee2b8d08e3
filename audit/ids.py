"""Opaque public ids: a prefix that says what it is, and 100 random bits."""

import secrets

ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
LENGTH = 20


def new(prefix: str) -> str:
    """Return a fresh id such as `key_` + 20 base32 characters; not secret."""
    return f"{prefix}_" + "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
