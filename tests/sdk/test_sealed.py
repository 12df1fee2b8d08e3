"""What the portal sealed opens with the recipient's key, for its own rotation, and in no other way."""

import base64
import traceback

import pytest
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from keystead import ConfigurationError
from keystead.sealed import CannotOpen, load_recipient, new_recipient, open_sealed

from tests.sdk.test_scan import draw

SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_128_GCM)
ROTATION = "rot_" + "a" * 20
PAIR = new_recipient()


def seal(text, pair=PAIR, rotation=ROTATION):
    """Seal as the spec tells the portal to."""
    public = X25519PublicKey.from_public_bytes(base64.b64decode(pair.public_key))
    return SUITE.encrypt(text.encode(), public, b"keystead/rotation/v1/" + rotation.encode())


def test_it_opens_as_bytes_and_as_base64():
    made = draw()
    ciphertext = seal(made)
    assert open_sealed(PAIR.private_pem, ROTATION, ciphertext) == made
    opened = open_sealed(load_recipient(PAIR.private_pem), ROTATION, base64.b64encode(ciphertext).decode())
    assert opened == made
    assert made[20:] not in repr(opened)


def test_not_for_another_rotation_or_recipient():
    ciphertext = seal(draw())
    with pytest.raises(CannotOpen):
        open_sealed(PAIR.private_pem, "rot_" + "b" * 20, ciphertext)
    with pytest.raises(CannotOpen):
        open_sealed(new_recipient().private_pem, ROTATION, ciphertext)


@given(st.integers(0, 2000), st.integers(1, 255))
def test_not_with_a_bit_changed(at, change):
    ciphertext = bytearray(seal(draw()))
    ciphertext[at % len(ciphertext)] ^= change
    try:
        open_sealed(PAIR.private_pem, ROTATION, bytes(ciphertext))
    except CannotOpen:
        return
    # X25519 ignores the highest bit of a public key; the same secret comes out, or nothing.
    assert at % len(ciphertext) == 31
    assert change == 0x80


@pytest.mark.parametrize("text", ["", "hello", "ks_sv_live_" + "a" * 49, draw() + "\nEVIL=1"], ids=range(4))
def test_only_a_secret_comes_out(text):
    with pytest.raises(CannotOpen) as caught:
        open_sealed(PAIR.private_pem, ROTATION, seal(text))
    assert "aaaaaa" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("ciphertext", ["", "é", "%%%", "QQ==", b"", b"x" * 31, b"x" * 4096])
def test_what_is_none_does_not(ciphertext):
    with pytest.raises(CannotOpen):
        open_sealed(PAIR.private_pem, ROTATION, ciphertext)


@pytest.mark.parametrize(
    "pem",
    [b"", b"x", PAIR.private_pem[:-40], b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----"],
    # Names that hold a random value differ between the processes of a run.
    ids=range(4),
)
def test_a_private_key_that_is_none(pem):
    with pytest.raises(ConfigurationError, match="no private key"):
        open_sealed(pem, ROTATION, seal(draw()))


def test_another_kind_of_key():
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(ConfigurationError, match="X25519"):
        load_recipient(pem)


def test_a_pair_shows_only_its_public_half():
    assert "PRIVATE" not in repr(PAIR)
    assert len(base64.b64decode(PAIR.public_key)) == 32
