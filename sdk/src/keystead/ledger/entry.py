"""The bytes of an entry (spec LEDGER, Bytes 1-3, 5 and 11): read fast, and refused where they are not the one form."""

from __future__ import annotations

import hmac
import json
import re
from base64 import b64encode
from binascii import a2b_base64
from datetime import datetime
from json.encoder import encode_basestring
from typing import Any, Final

from keystead.ledger.note import is_origin

MAX_LEAF_BYTES: Final = 16_384
MAX_STRING_BYTES: Final = 2_048
MAX_DEPTH: Final = 4
MAX_INTEGER: Final = 2**53 - 1
_REQUIRED: Final = frozenset({"v", "log", "i", "t", "prev", "act", "actor", "data"})
_ALLOWED: Final = _REQUIRED | {"sealed"}
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_ACT: Final = re.compile(r"[a-z]+(\.[a-z_]+)+")
_ACTOR: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
# 32 bytes in base64 have one spelling: the last character carries four bits.
_DIGEST: Final = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")
# Names that were found good; most entries have no other.
_good_names: set[str] = set(_ALLOWED)
_MAX_GOOD_NAMES: Final = 4_096


class NotCanonical(ValueError):  # noqa: N818
    """These bytes are no entry; the message names the place and repeats nothing of it."""


_scan: Final = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
_encode: Final = json.JSONEncoder(
    ensure_ascii=False, sort_keys=True, separators=(",", ":"), check_circular=False
).encode


def read_object(line: bytes) -> tuple[dict[str, Any], str]:
    """Return the JSON object in a line and the line as text.

    Raises:
        NotCanonical: it is not UTF-8, not JSON, or no object.
    """
    try:
        text = line.decode()
        found, _ = _scan(text, 0)
    except (ValueError, StopIteration, RecursionError):
        raise NotCanonical("entry: is not JSON in UTF-8") from None
    if type(found) is not dict:
        raise NotCanonical("entry: is not an object")
    return found, text


def canonical(members: dict[str, Any]) -> str:
    """Return the text of RFC 8785 for an object whose names are ASCII and whose numbers are integers within 2^53.

    For those Python's own writer makes the same: names in order of code points are in order of UTF-16, an integer has
    one spelling, and the same characters are escaped in the same way.
    """
    return _encode(members)


def read(leaf: bytes) -> dict[str, Any]:
    """Return the members of the entry of which `leaf` is the canonical form.

    Raises:
        NotCanonical: it breaks a rule of the format.
    """
    if len(leaf) > MAX_LEAF_BYTES:
        raise NotCanonical(f"entry: has more than {MAX_LEAF_BYTES} bytes")
    members, text = read_object(leaf)
    if not _REQUIRED <= members.keys() <= _ALLOWED:
        raise NotCanonical("entry: has other members than v, log, i, t, prev, act, actor, data, sealed")
    # A short text holds no string that is too long, and one without this escape no U+0000.
    looks_into_strings = len(leaf) > MAX_STRING_BYTES or "\\u0000" in text
    _check_members(members, "", 1, looks_into_strings=looks_into_strings)
    _check_forms(members)
    if "sealed" in members:
        _check_sealed(members["sealed"])
    if canonical(members) != text:
        raise NotCanonical("entry: is not in canonical form (RFC 8785)")
    return members


def quoted(text: str) -> str:
    """Return a string as RFC 8785 writes it."""
    return encode_basestring(text)


def digest(text: str) -> bytes | None:
    """Return the 32 bytes that base64 stands for, None for another length or spelling."""
    return a2b_base64(text) if _DIGEST.fullmatch(text) else None


def commitment(field: str, value: str, salt: bytes) -> str:
    """Return what stands in `sealed` for a value: HMAC-SHA-256 with the salt over field‖0x00‖value, in base64."""
    message = field.encode() + b"\x00" + value.encode()
    return b64encode(hmac.digest(salt, message, "sha256")).decode()


def _check_members(members: dict[str, Any], path: str, depth: int, *, looks_into_strings: bool) -> None:
    if not members.keys() <= _good_names:
        for name in members:
            _check_name(name, path)
    for name, value in members.items():
        if type(value) is not str or looks_into_strings:
            _check_value(value, f"{path}{name}", depth + 1, looks_into_strings=looks_into_strings)


def _check_name(name: str, path: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise NotCanonical(f"{path}(name): is not a member name")
    if len(_good_names) < _MAX_GOOD_NAMES:
        _good_names.add(name)


def _check_value(value: object, path: str, depth: int, *, looks_into_strings: bool) -> None:
    """Check one value; `depth` is what it would have as an object or array."""
    if isinstance(value, (dict, list)):
        if depth > MAX_DEPTH:
            raise NotCanonical(f"{path}: is more than {MAX_DEPTH} objects or arrays deep")
        if isinstance(value, dict):
            _check_members(value, f"{path}.", depth, looks_into_strings=looks_into_strings)
            return
        for place, element in enumerate(value):
            _check_value(element, f"{path}[{place}]", depth + 1, looks_into_strings=looks_into_strings)
    elif isinstance(value, str):
        if looks_into_strings:
            _check_string(value, path)
    elif isinstance(value, float):
        raise NotCanonical(f"{path}: a float has no place in an entry")
    elif value is not None and not -MAX_INTEGER <= value <= MAX_INTEGER:  # type: ignore[operator]
        raise NotCanonical(f"{path}: is an integer beyond 2^53-1")


def _check_string(value: str, path: str) -> None:
    try:
        length = len(value.encode())
    except UnicodeEncodeError:
        length = -1
    if length < 0 or "\x00" in value:
        raise NotCanonical(f"{path}: holds U+0000 or a lone surrogate")
    if length > MAX_STRING_BYTES:
        raise NotCanonical(f"{path}: has more than {MAX_STRING_BYTES} bytes")


def _check_forms(members: dict[str, Any]) -> None:
    if type(members["v"]) is not int or members["v"] != 1:
        raise NotCanonical("v: is not 1")
    if type(members["i"]) is not int or members["i"] < 0:
        raise NotCanonical("i: is not an index")
    if not isinstance(members["log"], str) or not is_origin(members["log"]):
        raise NotCanonical("log: is not an origin")
    if type(members["data"]) is not dict:
        raise NotCanonical("data: is not an object")
    _check_time(members["t"])
    for name, form in (("prev", _DIGEST), ("act", _ACT), ("actor", _ACTOR)):
        if not isinstance(members[name], str) or form.fullmatch(members[name]) is None:
            problem = "is not base64 of 32 bytes" if name == "prev" else f"does not match {form.pattern}"
            raise NotCanonical(f"{name}: {problem}")


def _check_time(value: object) -> None:
    if not isinstance(value, str) or _TIME.fullmatch(value) is None:
        raise NotCanonical(f"t: does not match {_TIME.pattern}")
    try:
        datetime.fromisoformat(value[:-1])
    except ValueError:
        raise NotCanonical("t: is not in the calendar") from None


def _check_sealed(sealed: object) -> None:
    if not isinstance(sealed, dict) or not sealed:
        raise NotCanonical("sealed: is not an object with members")
    for name, value in sealed.items():
        if not isinstance(value, str) or _DIGEST.fullmatch(value) is None:
            raise NotCanonical(f"sealed.{name}: is not base64 of 32 bytes")
