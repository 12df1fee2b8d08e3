"""Signing as Standard Webhooks 1.0.0 has it: HMAC-SHA-256 over `id.timestamp.body`. Pure but for fresh secrets."""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32
# After a rotation the old secret signs beside the new one for so long.
OVERLAP: Final = timedelta(hours=24)
_SECRET: Final = re.compile(r"whsec_[A-Za-z0-9+/]{12,}={0,2}")


def new_secret() -> str:
    """Return a fresh secret, `whsec_` and 32 random bytes in base64: secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def message_id(endpoint_id: str, epoch: int, index: int) -> str:
    """Return the `webhook-id` of an entry for an endpoint: the same at every attempt and at every resend."""
    digest = hashlib.sha256(f"{endpoint_id}/{epoch}/{index}".encode()).digest()
    return "msg_" + base64.b32encode(digest[:20]).decode().lower()


def signature(secret: str, message: str, timestamp: int, body: bytes) -> str:
    """Return `v1,<base64>`. `timestamp` is in seconds since 1970."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = f"{message}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def headers(signing: Sequence[str], message: str, at: datetime, body: bytes) -> dict[str, str]:
    """Return the three headers of an attempt at `at`, signed with each secret that is in force."""
    timestamp = int(at.timestamp())
    return {
        "webhook-id": message,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signature(each, message, timestamp, body) for each in signing),
    }


def redact(text: str) -> str:
    """Hide what looks like a webhook secret: somebody pasted it where it does not belong."""
    return _SECRET.sub(PREFIX + "…", text) if PREFIX in text else text
