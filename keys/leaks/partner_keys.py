"""The public keys of the secret-scanning partner, and whether it signed a message (spec EVENTS, Leaks).

They come from a file or from an https address, both in GitHub's format. What was fetched is shared by all processes and
asked for again when somebody names a key that is not among them, at most once a minute.
"""

import base64
import binascii
import json
import time
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import httpx
import structlog
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from django.conf import settings
from django.core.cache import cache
from django.db import connection, transaction

from keys.errors import NotSigned, Unavailable

MAX_BYTES: Final = 64 * 1024
MAX_KEYS: Final = 100
MAX_ID: Final = 128
MAX_SIGNATURE: Final = 256
TIMEOUT_SECONDS: Final = 5.0
ASK_AGAIN_SECONDS: Final = 60
KEPT_SECONDS: Final = 24 * 3600
_KEPT, _ASKED = "secret-scanning:keys", "secret-scanning:asked"
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('keystead secret scanning', 0))"
log = structlog.get_logger("keystead.secret_scanning")

# An identifier, and the key as PEM.
type Keys = Mapping[str, str]


def is_on() -> bool:
    """Return whether the operator has said whose signatures count."""
    return bool(settings.SECRET_SCANNING_KEYS)


def check_signature(body: bytes, *, identifier: str, signature: str) -> None:
    """Pass a message that the partner signed: base64 of DER, ECDSA on P-256 over the SHA-256 of the raw bytes.

    Args:
        body: as it came, before anything parsed it.
        identifier: the key's, as the message names it.
        signature: as the message has it.

    Raises:
        NotSigned: an unknown key, no key on that curve, or no signature of it over these bytes.
        Unavailable: no key is known, and where they come from is out of reach.
    """
    if not 0 < len(identifier) <= MAX_ID or not 0 < len(signature) <= MAX_SIGNATURE:
        raise NotSigned
    pem = _key(identifier)
    if pem is None:
        raise NotSigned
    try:
        key = load_pem_public_key(pem.encode())
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise NotSigned
        key.verify(base64.b64decode(signature, validate=True), body, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, UnsupportedAlgorithm, binascii.Error, ValueError):
        raise NotSigned from None


def parse(text: bytes) -> Keys:
    """Read `{"public_keys": [{"key_identifier", "key"}]}`; what else is in it is left out.

    Raises:
        ValueError: it is not of that form, or has more than 100 keys.
    """
    found: Any = json.loads(text)
    entries = found.get("public_keys") if isinstance(found, dict) else None
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise ValueError("no list of public keys")
    keys = {entry.get("key_identifier"): entry.get("key") for entry in entries if isinstance(entry, dict)}
    return {name: pem for name, pem in keys.items() if isinstance(name, str) and isinstance(pem, str)}


def _key(identifier: str) -> str | None:
    source: str = settings.SECRET_SCANNING_KEYS
    if not source.startswith("https://"):
        return _of_file(source).get(identifier)
    kept: Keys | None = cache.get(_KEPT)
    if kept is None or identifier not in kept:
        kept = _ask_again(source) or kept
    if kept is None:
        raise Unavailable("The scanning partner's keys are out of reach. Nothing was changed; try again.")
    return kept.get(identifier)


def _of_file(path: str) -> Keys:
    try:
        with Path(path).open("rb") as file:
            return parse(file.read(MAX_BYTES))
    except (OSError, ValueError) as error:
        log.warning("the scanning partner's keys can't be read", reason=type(error).__name__)
        raise Unavailable(
            "The scanning partner's keys can't be read. Nothing was changed; try again."
        ) from None


def _ask_again(url: str) -> Keys | None:
    """Fetch the keys, unless some process did within the last minute; return None where there is nothing new."""
    if not _may_ask():
        return None
    try:
        keys = parse(_fetched(url))
    except (httpx.HTTPError, ValueError) as error:
        log.warning("the scanning partner's keys can't be fetched", reason=type(error).__name__)
        return None
    cache.set(_KEPT, keys, KEPT_SECONDS)
    return keys


def _may_ask() -> bool:
    """Take the minute's one question; the lock makes what the cache does in two steps one."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_LOCK)
        return cache.add(_ASKED, 1, ASK_AGAIN_SECONDS)


def _fetched(url: str) -> bytes:
    """Return the answer's body; raises `httpx.HTTPError`, or `ValueError` for one too long, too slow or no success."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    with (
        httpx.Client(trust_env=False, follow_redirects=False, timeout=TIMEOUT_SECONDS) as client,
        client.stream("GET", url, headers={"Accept": "application/json"}) as response,
    ):
        if response.status_code != HTTPStatus.OK:
            raise ValueError("no success")
        body = b""
        for chunk in response.iter_bytes(4096):
            body += chunk
            if len(body) > MAX_BYTES or time.monotonic() > deadline:
                raise ValueError("too much, or too slow")
    return body
