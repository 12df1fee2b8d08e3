"""Secrets, and how to keep them out of what people read."""

from __future__ import annotations

import re
import zlib
from typing import Final

DEFAULT_BRAND: Final = "ks"
_ALPHABET: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CHECK_LENGTH: Final = 6
_WHOLE: Final = re.compile(rb"[a-z0-9]{2,8}_(?:in|cp|sv)_(?:live|test)_[0-9A-Za-z]{49}")
# Knows no brand and no checksum: another portal's secret, and one cut off or mistyped, must not be shown either.
_LEAK: Final = re.compile(r"([a-z0-9]{2,8}_(?:in|cp|sv)_(?:live|test)_[0-9A-Za-z]{4})[0-9A-Za-z]+")


class Secret(str):
    """A secret that is an ordinary string to use, and shows only its beginning where objects are described.

    `repr`, and so tracebacks with locals, debuggers and the repr of whatever holds it, are redacted. `str`, `print`
    and formatting give the secret itself: that is what it is for.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        match = _LEAK.fullmatch(self)
        return f"Secret({match[1] if match else ''}…)"


def redact(text: str) -> str:
    """Return the text with everything that looks like a secret cut to its display form, `ks_cp_live_AbCd…`."""
    return _LEAK.sub(r"\1…", text)


def looks_like_secret(text: str) -> bool:
    """Tell whether something in the text looks like a secret, whole or cut off."""
    return _LEAK.search(text) is not None


def is_wellformed(text: str) -> bool:
    """Tell whether the text is one whole secret of some portal, its checksum right (KEYS §1). Nothing is asked."""
    return text.isascii() and has_checksum(text.encode())


def has_checksum(text: bytes) -> bool:
    """Tell whether the bytes are one whole secret, of whatever brand, whose last 6 characters are its checksum."""
    return _WHOLE.fullmatch(text) is not None and check(text[:-_CHECK_LENGTH]) == text[-_CHECK_LENGTH:]


def check(body: bytes) -> bytes:
    """Return the 6 check characters of all that stands before them: base62 of CRC-32 (IEEE), padded with 0."""
    number, digits = zlib.crc32(body), bytearray()
    for _ in range(_CHECK_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return bytes(reversed(digits))
