"""Which openings are not there, and which the ledger says were erased: a bit for each, so that millions are nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from keystead.ledger.errors import BundleMalformed

# A product has a handful; a bundle that is made to fill the memory has as many as it likes.
MAX_FIELDS: Final = 1_000


class Erased:
    """What is missing and what was erased, field by field."""

    def __init__(self) -> None:
        self._missing: dict[str, bytearray] = {}
        self._erased: dict[str, bytearray] = {}

    def add(
        self, missing: Iterable[tuple[int, str]], erasures: Iterable[tuple[int, list[int], list[str]]]
    ) -> None:
        """Note openings that are not there, and what erasures say of entries before them."""
        for index, name in missing:
            _set(self._missing, name, index)
        for _, entries, names in erasures:
            for name in names:
                # One that nothing misses so far was not erased before this.
                if name in self._missing:
                    for index in entries:
                        _set(self._erased, name, index)

    def count(self) -> int:
        """Return the number of openings that are not there."""
        return sum(bin(int.from_bytes(bits, "little")).count("1") for bits in self._missing.values())

    def first_missing(self) -> tuple[int, str] | None:
        """Return the first (index, field) that is not there and was not erased; None where there is none."""
        left = []
        for name, missing in self._missing.items():
            erased = self._erased.get(name, bytearray())
            number = int.from_bytes(missing, "little") & ~int.from_bytes(erased, "little")
            if number:
                left.append(((number & -number).bit_length() - 1, name))
        return min(left, default=None)


def _set(fields: dict[str, bytearray], name: str, index: int) -> None:
    if name not in fields and len(fields) >= MAX_FIELDS:
        raise BundleMalformed(f"more than {MAX_FIELDS} sealed fields have no opening")
    bits = fields.setdefault(name, bytearray())
    byte = index >> 3
    if byte >= len(bits):
        bits.extend(bytes(byte + 1 - len(bits)))
    bits[byte] |= 1 << (index & 7)
