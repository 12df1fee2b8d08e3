"""The secret of a key: its form, its checksum, its digest, and how to hide it. Spec KEYS §1.

`ks_cp_live_` + 43 random base62 characters (256 bits) + 6 characters of CRC-32. The checksum keeps typing
errors and scanners' false alarms from the database; it protects nothing, anybody can compute it. What
protects a secret is that only its HMAC under the pepper is stored: a dump of the database without the pepper
can't even confirm a guess. No function here puts a secret into an exception or a repr.
"""

import hmac
import re
import secrets
import zlib
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Final

from keys.errors import Malformed

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RANDOM_LENGTH: Final = 43
CHECK_LENGTH: Final = 6
HINT_LENGTH: Final = 4
MIN_PEPPER: Final = 16

_BRAND: Final = re.compile(r"[a-z0-9]{2,8}")
_SEGMENTS: Final = {"ingestion": "in", "control_plane": "cp", "service": "sv"}


class Kind(StrEnum):
    """What a key is for (KEYS §2)."""

    INGESTION = "ingestion"
    CONTROL_PLANE = "control_plane"
    SERVICE = "service"

    @property
    def segment(self) -> str:
        """Return the two letters that stand for the kind in a secret."""
        return _SEGMENTS[self]


class Mode(StrEnum):
    """Whether an environment, and so its keys, are real."""

    LIVE = "live"
    TEST = "test"


_KINDS: Final = {kind.segment: kind for kind in Kind}

# An underscore as logs, URLs, JSON, HTML and nested encodings of them write it. The repetitions are bounded,
# or a long run of percent signs or backslashes would be scanned again from each of its characters.
_UNDERSCORE: Final = r"(?:_|%(?:25){0,3}5f|\\{1,4}(?:u00|x)5f|&\#(?:95|x5f);)"
# The prefix without its brand, then the four characters that may be seen, then at least 12 more: a piece of a
# secret that was cut off is hidden too, a word such as log_in_live_performance is not. Letters of either
# case, because a secret that something turned to one case can be brought back with its checksum.
_LEAK: Final = re.compile(
    rf"({_UNDERSCORE}(?:in|cp|sv){_UNDERSCORE}(?:live|test){_UNDERSCORE}[0-9a-z]{{{HINT_LENGTH}}})[0-9a-z]{{12,}}",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A well-formed secret, taken apart. `text` is the secret itself and stays out of the repr."""

    text: str = field(repr=False)
    brand: str
    kind: Kind
    mode: Mode
    hint: str


def generate(brand: str, kind: Kind, mode: Mode) -> str:
    """Make a new secret from the operating system's CSPRNG, each character uniform (KEYS §1).

    The result is secret: show it once, store its digest.

    Raises:
        ValueError: the brand, a setting of the deployment, is not 2 to 8 of a-z and 0-9.
    """
    _pattern(brand)
    body = f"{brand}_{kind.segment}_{mode}_" + "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_LENGTH))
    return body + check(body)


def parse(text: str, brand: str) -> Parsed:
    """Take a presented secret apart, having checked its form and its checksum. Nothing is looked up.

    Any string will do: of whatever length, with NUL, with lone surrogates.

    Raises:
        Malformed: not a secret of this brand. One message for every reason, and never with the text.
        ValueError: the brand is not 2 to 8 of a-z and 0-9.
    """
    match = _pattern(brand).fullmatch(text)
    if match is None or check(text[:-CHECK_LENGTH]) != text[-CHECK_LENGTH:]:
        raise Malformed
    segment, mode, hint_ = match.groups()
    return Parsed(text=text, brand=brand, kind=_KINDS[segment], mode=Mode(mode), hint=hint_)


def check(body: str) -> str:
    """Return the 6 check characters of all that stands before them: base62 of CRC-32 (IEEE), padded with 0.

    It covers the prefix, so that a changed kind or environment breaks it.
    """
    number = zlib.crc32(body.encode("utf-8", "surrogatepass"))
    digits = ""
    while number:
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits.rjust(CHECK_LENGTH, "0")


def digest(secret: str, pepper: bytes) -> bytes:
    """Return HMAC-SHA-256(pepper, secret), 32 bytes: all of a secret that is ever stored, beside its hint.

    Fast on purpose: 256 random bits can't be guessed however fast the hash is, and a slow one would let
    anybody burn our processors with garbage.

    Raises:
        ValueError: the pepper is shorter than 16 bytes, so somebody forgot to set it.
    """
    if len(pepper) < MIN_PEPPER:
        raise ValueError(f"The pepper must have at least {MIN_PEPPER} bytes.")
    return hmac.digest(pepper, secret.encode("utf-8", "surrogatepass"), "sha256")


def hint(secret: str) -> str:
    """Return the first 4 random characters of a well-formed secret, the only ones that may be seen again."""
    start = len(secret) - RANDOM_LENGTH - CHECK_LENGTH
    return secret[start : start + HINT_LENGTH]


def display(brand: str, kind: Kind, mode: Mode, hint: str) -> str:
    """Return how a secret is spoken of everywhere: `ks_cp_live_AbCd…`."""
    return f"{brand}_{kind.segment}_{mode}_{hint}…"


def redact(text: str) -> str:
    """Replace everything in the text that looks like a secret, whole or cut off, by its display form.

    The one filter for logs, errors, the ledger, webhooks and exports. It knows no brand and looks at no
    checksum, because another deployment's secret and one with a typing error must not be shown either.
    Linear in the length of the text; applied twice it changes nothing more.
    """
    return _LEAK.sub(r"\1…", text)


@lru_cache(maxsize=8)
def _pattern(brand: str) -> re.Pattern[str]:
    if _BRAND.fullmatch(brand) is None:
        raise ValueError("The brand must be 2 to 8 of a-z and 0-9.")
    rest = RANDOM_LENGTH + CHECK_LENGTH - HINT_LENGTH
    return re.compile(rf"{brand}_(in|cp|sv)_(live|test)_([0-9A-Za-z]{{{HINT_LENGTH}}})[0-9A-Za-z]{{{rest}}}")
