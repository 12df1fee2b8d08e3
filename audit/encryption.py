"""Encryption at rest: what the product must be able to read again, so that a dump of the database does not.

Fernet (AES-128-CBC with HMAC-SHA-256) under `ENCRYPTION_KEYS`, which never come from the database: the first encrypts,
every one decrypts, so that a key is replaced by putting its successor in front. Source: spec PEOPLE, SSO.
"""

from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

from audit.errors import DecryptionFailed


def encrypt(plain: bytes) -> bytes:
    """Return `plain` encrypted under the newest key, in URL-safe base64; 100 bytes and a third more than it was."""
    return _box(settings.ENCRYPTION_KEYS).encrypt(plain)


def decrypt(token: bytes) -> bytes:
    """Return what `encrypt` was given: secret. Raises `DecryptionFailed` where no key fits or it was altered."""
    try:
        return _box(settings.ENCRYPTION_KEYS).decrypt(bytes(token))
    except InvalidToken:
        raise DecryptionFailed("no encryption key fits, or the stored bytes were altered") from None


def renewed(token: bytes) -> bytes:
    """Return the same under the newest key. Raises `DecryptionFailed`."""
    return encrypt(decrypt(token))


def place(token: bytes) -> int | None:
    """Return the place in `ENCRYPTION_KEYS` of the key that a token is under, from 0; None where none fits.

    A token names no key: each is tried, the newest first.
    """
    return next((place for place, key in enumerate(settings.ENCRYPTION_KEYS) if _fits(key, token)), None)


def _fits(key: str, token: bytes) -> bool:
    try:
        _box((key,)).decrypt(bytes(token))
    except InvalidToken:
        return False
    return True


@lru_cache(maxsize=8)
def _box(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])
