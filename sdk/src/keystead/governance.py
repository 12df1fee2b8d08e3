"""What an approval was given for: the digest of planned parameters, over their canonical JSON (RFC 8785)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from math import isfinite
from typing import Any, Final

LARGEST: Final = 2**53 - 1
_PLAIN_DIGITS: Final = 21
_PLAIN_ZEROS: Final = -6


def digest(parameters: Any) -> str:
    """Return the SHA-256 of parameters' canonical JSON, 64 hexadecimal digits: the same for the same values.

    Raises:
        ValueError, TypeError: as `canonical`.
    """
    return hashlib.sha256(canonical(parameters)).hexdigest()


def canonical(value: Any) -> bytes:
    """Return JSON as RFC 8785 has it: of texts, numbers, booleans, None, lists and mappings.

    Raises:
        ValueError: an integer beyond 2^53 - 1, infinity, or a text that is not Unicode: no two would read it alike.
        TypeError: something else.
    """
    return _written(value).encode()


def _written(value: Any) -> str:
    if value is None or isinstance(value, (str, bool)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Mapping):
        return _object(value)
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_written, value))}]"
    raise TypeError(f"A {type(value).__name__} is nothing that JSON has.")


def _integer(value: int) -> str:
    if abs(value) > LARGEST:
        raise ValueError("An integer above 2^53 - 1 is not the same everywhere: write it as a text.")
    return str(int(value))


def _float(value: float) -> str:
    """Return the number as ECMAScript writes it: Python's digits, and other rules for the point and the exponent."""
    if not isfinite(value):
        raise ValueError("JSON has no infinity, and no NaN.")
    _, found, exponent = Decimal(repr(abs(value))).normalize().as_tuple()
    digits, point = "".join(map(str, found)), len(found) + int(exponent)
    minus = "-" if value < 0 else ""
    if value == 0:
        return "0"
    if len(digits) <= point <= _PLAIN_DIGITS:
        return minus + digits.ljust(point, "0")
    if 0 < point <= _PLAIN_DIGITS:
        return f"{minus}{digits[:point]}.{digits[point:]}"
    if _PLAIN_ZEROS < point <= 0:
        return f"{minus}0.{'0' * -point}{digits}"
    return f"{minus}{digits[0]}{'.' * (len(digits) > 1)}{digits[1:]}e{point - 1:+d}"


def _object(members: Mapping[Any, Any]) -> str:
    if not all(isinstance(name, str) for name in members):
        raise TypeError("An object's names are texts.")
    # In the order of their UTF-16 code units.
    names = sorted(members, key=lambda name: name.encode("utf-16-be"))
    return "{" + ",".join(f"{_written(name)}:{_written(members[name])}" for name in names) + "}"
