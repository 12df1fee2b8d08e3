"""Which openings are not there, and which the ledger says were erased: a bit for each, so that millions are nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from keystead.ledger.errors import BundleMalformed

_BITS: Final = 4_096
# Of 4,096 entries and one field each. Fields that were erased again take no place, whatever number of names a thief of
# the application's login had them sealed under; a bundle that is made to fill the memory has as many as it likes.
MAX_CELLS: Final = 500_000


class Erased:
    """What is missing and was not erased yet, field by field."""

    def __init__(self) -> None:
        self._missing: dict[tuple[int, str], int] = {}
        self._count = 0

    def add(
        self, missing: Iterable[tuple[int, str]], erasures: Iterable[tuple[int, list[int], list[str]]]
    ) -> None:
        """Note openings that are not there, and strike out those that erasures name, of entries before them."""
        for index, name in missing:
            self._note(index, name)
        for _, entries, names in erasures:
            for name in names:
                for index in entries:
                    self._strike(index, name)
        if len(self._missing) > MAX_CELLS:
            raise BundleMalformed("more sealed fields have no opening than can be kept in mind")

    def count(self) -> int:
        """Return the number of openings that are not there."""
        return self._count

    def first_missing(self) -> tuple[int, str] | None:
        """Return the first (index, field) that is not there and was not erased; None where there is none."""
        return min(
            (
                (chunk * _BITS + (bits & -bits).bit_length() - 1, name)
                for (chunk, name), bits in self._missing.items()
            ),
            default=None,
        )

    def _note(self, index: int, name: str) -> None:
        chunk, bit = divmod(index, _BITS)
        self._missing[chunk, name] = self._missing.get((chunk, name), 0) | 1 << bit
        self._count += 1

    def _strike(self, index: int, name: str) -> None:
        chunk, bit = divmod(index, _BITS)
        bits = self._missing.get((chunk, name), 0)
        left = bits & ~(1 << bit)
        if left:
            self._missing[chunk, name] = left
        elif bits:
            del self._missing[chunk, name]
