"""Opening what the portal sealed: a new secret, on its way to a machine without anybody seeing it (spec EVENTS).

HPKE (RFC 9180) in base mode: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM. The rotation's id is bound in, so
that a sealed secret opens for its own rotation and no other. Needs the extra `keystead[crypto]`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from keystead.errors import ConfigurationError, KeysteadError
from keystead.secret import Secret, has_checksum

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

INFO: Final = b"keystead/rotation/v1/"


class CannotOpen(KeysteadError):  # noqa: N818
    """It was sealed to another key or for another rotation, it was changed, or it holds no secret."""


@dataclass(frozen=True)
class KeyPair:
    """A recipient's keys.

    Args:
        private_pem: PKCS #8; secret, and to be kept by the machine that opens.
        public_key: 32 bytes in base64, to be registered at the portal.
    """

    private_pem: bytes = field(repr=False)
    public_key: str

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of the public key in hexadecimal, which the portal shows too."""
        return hashlib.sha256(base64.b64decode(self.public_key)).hexdigest()


def new_recipient() -> KeyPair:
    """Draw a key pair for a machine that new secrets shall be sealed to.

    Raises:
        ConfigurationError: the extra `crypto` is not installed.
    """
    known = _Crypto()
    private = known.x25519.X25519PrivateKey.generate()
    pem = private.private_bytes(
        known.serialization.Encoding.PEM,
        known.serialization.PrivateFormat.PKCS8,
        known.serialization.NoEncryption(),
    )
    return KeyPair(pem, base64.b64encode(private.public_key().public_bytes_raw()).decode())


def load_recipient(pem: bytes) -> X25519PrivateKey:
    """Return the private key of a recipient.

    Raises:
        ConfigurationError: it is none, or the extra `crypto` is not installed. The message has nothing of it.
    """
    known = _Crypto()
    with suppress(ValueError, TypeError, known.UnsupportedAlgorithm):
        private = known.serialization.load_pem_private_key(pem, None)
        if isinstance(private, known.x25519.X25519PrivateKey):
            return cast("X25519PrivateKey", private)
    raise ConfigurationError("This is no private key of a recipient: an X25519 key in PEM, not encrypted.")


def open_sealed(private_key: X25519PrivateKey | bytes, rotation_id: str, ciphertext: bytes | str) -> Secret:
    """Return the new secret of a rotation; it is secret.

    Args:
        private_key: the recipient's, or its PEM.
        rotation_id: `rot_…`, whose secret it is.
        ciphertext: as the portal gave it, in base64 or decoded.

    Raises:
        CannotOpen: not sealed to this key for this rotation, or holding no secret with its checksum.
        ConfigurationError: the PEM is none, or the extra `crypto` is not installed.
    """
    known = _Crypto()
    key = load_recipient(private_key) if isinstance(private_key, bytes) else private_key
    suite = known.hpke.Suite(known.hpke.KEM.X25519, known.hpke.KDF.HKDF_SHA256, known.hpke.AEAD.AES_128_GCM)
    try:
        opened = suite.decrypt(_bytes(ciphertext), key, INFO + rotation_id.encode())
    except (known.InvalidTag, ValueError):
        opened = b""
    # Raised past the frames that had the plain text.
    if not has_checksum(opened):
        raise CannotOpen("This was not sealed to this key for this rotation.")
    return Secret(opened.decode())


def _bytes(ciphertext: bytes | str) -> bytes:
    if isinstance(ciphertext, bytes):
        return ciphertext
    try:
        return base64.b64decode(ciphertext, validate=True)
    except (binascii.Error, ValueError):
        return b""


class _Crypto:
    """The parts of `cryptography` that are needed, when they are needed."""

    def __init__(self) -> None:
        try:
            from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm  # noqa: PLC0415
            from cryptography.hazmat.primitives import hpke, serialization  # noqa: PLC0415
            from cryptography.hazmat.primitives.asymmetric import x25519  # noqa: PLC0415
        except ImportError:
            raise ConfigurationError("Install keystead[crypto] to open what was sealed.") from None
        self.InvalidTag, self.UnsupportedAlgorithm = InvalidTag, UnsupportedAlgorithm
        self.hpke: Any = hpke
        self.serialization, self.x25519 = serialization, x25519
