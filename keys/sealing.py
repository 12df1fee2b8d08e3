"""What only a recipient can open: HPKE (RFC 9180) with X25519, HKDF-SHA256 and AES-128-GCM. Spec EVENTS, Auto-rotation.

A recipient is 32 bytes that somebody pasted. They are judged here, because everything that rotates by itself
afterwards can be opened with the private half and by nobody else.
"""

import base64
import binascii
import hashlib
import re
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from keys.errors import Invalid

SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
INFO: Final = "keystead/rotation/v1/"
KEY_BYTES: Final = 32
MAX_TEXT: Final = 4_096
# RFC 7748: the prime of the field. An encoding at or above it is another spelling of a smaller one.
PRIME: Final = 2**255 - 19
NEVER_PASTE: Final = (
    "This is a private key. It must never leave the machine that opens secrets: make a new pair, and register its "
    "public key."
)
_PRIVATE: Final = re.compile(r"PRIVATE\s+KEY", re.IGNORECASE)


def parse_public_key(text: str) -> bytes:
    """Return the 32 bytes of an X25519 public key, given as base64 or as PEM (SubjectPublicKeyInfo).

    Raises:
        Invalid: a private key, another sort of key, no key at all, or one that is known to keep no secret: a point
            of low order, with which anybody can open what is sealed, or a second spelling of another key (field
            `public_key`).
    """
    if len(text) > MAX_TEXT:
        raise _invalid("This is too long for a public key.")
    if is_private(text):
        raise _invalid(NEVER_PASTE)
    raw = _of_pem(text) if "-----" in text else _of_base64(text)
    _check_point(raw)
    return raw


def is_private(text: str) -> bool:
    """Tell whether a text says of itself that it is a private key: then it must not be shown again."""
    return _PRIVATE.search(text) is not None


def fingerprint(public_key: bytes) -> str:
    """Return the SHA-256 of a public key's 32 bytes in hexadecimal, by which people compare it; not secret."""
    return hashlib.sha256(public_key).hexdigest()


def seal(text: str, public_key: bytes, rotation_id: str) -> bytes:
    """Return a new secret sealed to a recipient: the encapsulated key (32 bytes), then the ciphertext; not secret.

    Args:
        text: the secret.
        public_key: 32 bytes, as `parse_public_key` returned them.
        rotation_id: bound to it: it opens for this rotation and for no other.
    """
    recipient = X25519PublicKey.from_public_bytes(public_key)
    return bytes(SUITE.encrypt(text.encode(), recipient, info=f"{INFO}{rotation_id}".encode()))


def _of_pem(text: str) -> bytes:
    try:
        found = load_pem_public_key(text.strip().encode())
    except (ValueError, UnsupportedAlgorithm):
        raise _invalid("This PEM holds no public key that can be read.") from None
    if not isinstance(found, X25519PublicKey):
        raise _invalid("This is a public key, but not of X25519.")
    return found.public_bytes_raw()


def _of_base64(text: str) -> bytes:
    compact = "".join(text.split())
    try:
        raw = base64.b64decode(compact, validate=True)
    except (binascii.Error, ValueError):
        raise _invalid("Paste the PEM, or the 32 bytes of the key in base64.") from None
    if len(raw) != KEY_BYTES:
        raise _invalid(f"A public key of X25519 is {KEY_BYTES} bytes; this is {len(raw)}.")
    return raw


def _check_point(raw: bytes) -> None:
    if int.from_bytes(raw, "little") >= PRIME:
        raise _invalid("This is not how a public key of X25519 is written.")
    try:
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(raw))
    except ValueError:
        raise _invalid("This key can't keep a secret: anybody could open what is sealed to it.") from None


def _invalid(detail: str) -> Invalid:
    return Invalid(detail, field="public_key")
