"""What a `ledger.erasure` entry names, and which openings are gone without one (LEDGER.md Bytes 11). Pure.

`data` of such an entry: `entries` (indexes, ascending), `fields` (names), and `epoch` where it is another one than the
entry's own. It names each of those fields in each of those entries, all of them before itself.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

type Position = tuple[int, int]

# The longest indexes fill half of an entry's 16,384 bytes; and the trigger that guards the openings reads the entry
# once for each of them, so that a longer list costs more than another entry does.
MOST_ENTRIES: Final = 500
_BITS: Final = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """What one entry of the ledger says is erased: `fields` of each of `entries` in `epoch`."""

    epoch: int
    entries: Sequence[int]
    fields: Sequence[str]

    def data(self, own_epoch: int) -> dict[str, object]:
        """Return it as the `data` of an entry in `own_epoch` carries it."""
        named: dict[str, object] = {"entries": list(self.entries), "fields": list(self.fields)}
        return named if self.epoch == own_epoch else named | {"epoch": self.epoch}


def read(data: Mapping[str, Any], own_epoch: int) -> Erasure | None:
    """Return what an erasure entry of `own_epoch` names; None where its data has not the form of one."""
    epoch, entries, fields = data.get("epoch", own_epoch), data.get("entries"), data.get("fields")
    if type(epoch) is not int or not isinstance(entries, list) or not isinstance(fields, list):
        return None
    if any(type(i) is not int for i in entries) or any(not isinstance(field, str) for field in fields):
        return None
    return Erasure(epoch=epoch, entries=entries, fields=fields)


def batches(named: Iterable[tuple[Position, str]]) -> Iterator[Erasure]:
    """Yield erasures that name exactly these fields: each at most 500 entries of an epoch that lose the same ones."""
    fields_of: dict[Position, list[str]] = {}
    for position, field in named:
        fields_of.setdefault(position, []).append(field)
    alike: dict[tuple[int, tuple[str, ...]], list[int]] = {}
    for (epoch, index), lost in sorted(fields_of.items()):
        alike.setdefault((epoch, tuple(sorted(set(lost)))), []).append(index)
    for (epoch, fields), indexes in alike.items():
        for first in range(0, len(indexes), MOST_ENTRIES):
            yield Erasure(epoch=epoch, entries=indexes[first : first + MOST_ENTRIES], fields=fields)


class Missing:
    """Openings that are not there, until an entry is met that erased them: a bit for each, whatever their number."""

    def __init__(self) -> None:
        self._bits: dict[tuple[int, int, str], int] = {}

    def add(self, position: Position, field: str) -> None:
        """Note that a sealed field has no opening."""
        epoch, (chunk, bit) = position[0], divmod(position[1], _BITS)
        place = (epoch, chunk, field)
        self._bits[place] = self._bits.get(place, 0) | 1 << bit

    def account(self, erasure: Erasure) -> None:
        """Strike out what an erasure names. Those noted later are not struck out: it could not mean them."""
        for index in erasure.entries:
            chunk, bit = divmod(index, _BITS)
            for field in erasure.fields:
                self._strike((erasure.epoch, chunk, field), bit)

    def first(self) -> tuple[Position, str] | None:
        """Return the first that is left, as ((epoch, index), field); None where all are accounted for."""
        left = (
            ((epoch, chunk * _BITS + (bits & -bits).bit_length() - 1), field)
            for (epoch, chunk, field), bits in self._bits.items()
        )
        return min(left, default=None)

    def _strike(self, place: tuple[int, int, str], bit: int) -> None:
        bits = self._bits.get(place)
        if bits is None:
            return
        bits &= ~(1 << bit)
        if bits:
            self._bits[place] = bits
        else:
            del self._bits[place]
