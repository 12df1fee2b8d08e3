"""The digest of an action's parameters: SHA-256 of their canonical JSON (RFC 8785). Spec EVENTS, Governed execution."""

import hashlib
import json
from typing import Any, Final, NoReturn

import rfc8785

from keys import secret
from keys.errors import Invalid

MAX_BYTES: Final = 8_192
MAX_DEPTH: Final = 20
FIELD: Final = "parameters"


def digest(parameters: Any) -> str:
    """Return the SHA-256 of parameters in canonical JSON, as 64 hexadecimal digits.

    Raises:
        Invalid: no canonical form (a number out of range, a lone surrogate), more than 8,192 bytes of it, more than 20
            levels, a NUL, or what looks like a secret (field `parameters`).
    """
    _check(parameters, 1)
    try:
        canonical = rfc8785.dumps(parameters)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, OverflowError):
        raise Invalid("These parameters have no canonical JSON (RFC 8785).", field=FIELD) from None
    if len(canonical) > MAX_BYTES:
        raise Invalid(f"At most {MAX_BYTES:,} bytes of canonical JSON.", field=FIELD)
    text = canonical.decode()
    if secret.redact(text) != text:
        raise Invalid("This looks like a secret. It was not kept; don't store it here.", field=FIELD)
    return hashlib.sha256(canonical).hexdigest()


def _check(value: Any, depth: int) -> None:
    """Refuse what PostgreSQL can't keep, and what nests too deep for anybody's parser."""
    if depth > MAX_DEPTH:
        raise Invalid(f"At most {MAX_DEPTH} levels.", field=FIELD)
    if isinstance(value, str):
        if "\0" in value:
            raise Invalid("Text without NUL is needed.", field=FIELD)
    elif isinstance(value, dict):
        for name, member in value.items():
            _check(name, depth)
            _check(member, depth + 1)
    elif isinstance(value, list):
        for element in value:
            _check(element, depth + 1)


def parse(text: str) -> Any:
    """Return the JSON of a text that a person typed, read as strictly as a request's body.

    Raises:
        Invalid: no JSON (field `parameters`).
    """
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        raise Invalid("This is no valid JSON.", field=FIELD) from None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member occurs twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_once_each, parse_constant=_no_constant)


def plan_digest(steps: list[dict[str, str]]) -> str:
    """Return the SHA-256 of a plan's steps in canonical JSON: what an entry says of a plan that is too long for it."""
    return hashlib.sha256(rfc8785.dumps(steps)).hexdigest()
