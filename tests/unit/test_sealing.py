"""Public keys as people paste them: what is taken, what is refused and why."""

import base64
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from keys import sealing
from keys.errors import Invalid

# Curve25519's points of low order (RFC 7748 §6.1): whoever knows the public half opens what is sealed to them.
LOW_ORDER = [
    "00" * 32,
    "01" + "00" * 31,
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]
NOT_CANONICAL = [
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ff" * 32,
]


def pem(public_key):
    return public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def encoded(raw):
    return base64.b64encode(raw).decode()


def refusal(text):
    with pytest.raises(Invalid) as caught:
        sealing.parse_public_key(text)
    assert caught.value.field == "public_key"
    return caught.value.detail


def test_pem_and_base64_are_one_key():
    key = X25519PrivateKey.generate().public_key()
    raw = key.public_bytes_raw()
    for text in (pem(key), f"  \n{pem(key)}\n", encoded(raw), f"{encoded(raw)[:20]}\n{encoded(raw)[20:]} "):
        assert sealing.parse_public_key(text) == raw


def test_what_openssl_makes_is_taken_and_has_the_fingerprint_that_it_prints(tmp_path):
    def openssl(*words, given=b""):
        return subprocess.run(["openssl", *words], input=given, capture_output=True, check=True).stdout

    file = str(tmp_path / "recipient.key")
    openssl("genpkey", "-algorithm", "X25519", "-out", file)
    raw = sealing.parse_public_key(openssl("pkey", "-in", file, "-pubout").decode())
    der = openssl("pkey", "-in", file, "-pubout", "-outform", "DER")
    assert der[-32:] == raw
    assert sealing.fingerprint(raw) in openssl("dgst", "-sha256", given=der[-32:]).decode()


@pytest.mark.parametrize("hexadecimal", LOW_ORDER)
def test_points_that_keep_no_secret_are_refused(hexadecimal):
    assert "keep a secret" in refusal(encoded(bytes.fromhex(hexadecimal)))


@pytest.mark.parametrize("hexadecimal", NOT_CANONICAL)
def test_a_second_spelling_of_a_key_is_refused(hexadecimal):
    assert "not how" in refusal(encoded(bytes.fromhex(hexadecimal)))


def test_the_high_bit_makes_no_other_key():
    raw = bytearray(X25519PrivateKey.generate().public_key().public_bytes_raw())
    raw[31] |= 0x80
    assert "not how" in refusal(encoded(bytes(raw)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "this is 0"),
        ("not base64!", "Paste the PEM"),
        (encoded(b"x" * 31), "this is 31"),
        (encoded(b"x" * 33), "this is 33"),
        ("ключ", "Paste the PEM"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "no public key"),
        ("A" * 5_000, "too long"),
        (pem(ed25519.Ed25519PrivateKey.generate().public_key()), "not of X25519"),
        (pem(ec.generate_private_key(ec.SECP256R1()).public_key()), "not of X25519"),
    ],
)
def test_garbage_is_refused_with_a_reason(text, says):
    assert says in refusal(text)


def test_a_private_key_is_refused_and_not_repeated():
    private = X25519PrivateKey.generate()
    text = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    detail = refusal(text)
    assert "private key" in detail
    assert text.splitlines()[1] not in detail
    assert sealing.is_private(text)
    assert not sealing.is_private(pem(private.public_key()))


def test_each_sealing_is_another():
    key = X25519PrivateKey.generate()
    raw = key.public_key().public_bytes_raw()
    one, two = (sealing.seal("secret", raw, "rot_a") for _ in range(2))
    assert one != two
    assert b"secret" not in one
    assert sealing.SUITE.decrypt(one, key, info=b"keystead/rotation/v1/rot_a") == b"secret"
