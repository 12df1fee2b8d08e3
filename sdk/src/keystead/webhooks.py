"""Checking that a webhook comes from the portal: Standard Webhooks 1.0.0, as the package `standardwebhooks` does it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from keystead.errors import KeysteadError
from keystead.reading import read

TOLERANCE_SECONDS: Final = 300
_PREFIX: Final = "whsec_"
_VERSION: Final = "v1"


class NotSigned(KeysteadError):  # noqa: N818
    """The body does not come from the portal as it is, or not from now. No message has a part of it."""


@dataclass(frozen=True)
class Event:
    """What happened: an act such as `rotation.started`, and its facts.

    Args:
        id: the same over all attempts to deliver it: what was handled under it need not be again.
    """

    id: str
    type: str
    timestamp: datetime
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Body:
    type: str
    timestamp: datetime
    data: Mapping[str, Any] = field(default_factory=dict)


def open_event(
    secret: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    tolerance_seconds: float = TOLERANCE_SECONDS,
    now: float | None = None,
) -> Event:
    """Return the event of a request, having checked its signature and its time.

    Args:
        secret: the endpoint's, `whsec_…`.
        headers: `webhook-id`, `webhook-timestamp` and `webhook-signature` are read, in any case.
        body: as it came, byte for byte.
        tolerance_seconds: that the time may differ from this machine's, either way.

    Raises:
        NotSigned: it is not what the portal signed, or it is too old.
        UnreadableAnswer: it was signed, and is no event.
        ValueError: the secret is none.
    """
    given = {name.lower(): value for name, value in headers.items()}
    id_, sent_at = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    expected = hmac.digest(_key(secret), b".".join((id_.encode(), sent_at.encode(), body)), hashlib.sha256)
    if not any(
        hmac.compare_digest(expected, each) for each in _signatures(given.get("webhook-signature", ""))
    ):
        raise NotSigned("The webhook's signature is wrong.")
    if not _is_recent(sent_at, time.time() if now is None else now, tolerance_seconds):
        raise NotSigned("The webhook is too old, or from the future.")
    found = read(_Body, _json(body))
    return Event(id_, found.type, found.timestamp, found.data)


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.strip().removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not key:
        raise ValueError("This is no webhook's secret: those look like whsec_….")
    return key


def _signatures(header: str) -> list[bytes]:
    """Return those of the version that we know; while the secret is rotated there are two."""
    found = []
    for each in header.split():
        version, _, text = each.partition(",")
        if version == _VERSION and text.isascii():
            found.append(_decoded(text))
    return found


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""


def _is_recent(sent_at: str, now: float, tolerance_seconds: float) -> bool:
    return sent_at.isascii() and sent_at.isdecimal() and abs(int(sent_at[:15]) - now) <= tolerance_seconds


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
