"""Encryption at rest: what is stored says nothing, and keys can be replaced."""

import base64
import secrets

import pytest

from audit import encryption
from audit.errors import DecryptionFailed

PLAIN = b"whsec_something"


def new_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def test_it_comes_back_and_never_looks_the_same_twice():
    one, two = encryption.encrypt(PLAIN), encryption.encrypt(PLAIN)
    assert one != two
    assert PLAIN not in one
    assert encryption.decrypt(one) == encryption.decrypt(memoryview(two)) == PLAIN


def test_the_first_key_encrypts_and_every_one_decrypts(settings):
    (old,) = settings.ENCRYPTION_KEYS
    stored = encryption.encrypt(PLAIN)
    settings.ENCRYPTION_KEYS = (new_key(), old)
    assert encryption.decrypt(stored) == PLAIN
    moved = encryption.renewed(stored)
    settings.ENCRYPTION_KEYS = settings.ENCRYPTION_KEYS[:1]
    assert encryption.decrypt(moved) == PLAIN
    with pytest.raises(DecryptionFailed):
        encryption.decrypt(stored)


@pytest.mark.parametrize("change", [lambda t: t[:-1], lambda t: t[:40] + b"AAAA" + t[44:], lambda _: b""])
def test_what_was_altered_is_refused(change):
    with pytest.raises(DecryptionFailed):
        encryption.decrypt(change(encryption.encrypt(PLAIN)))
