"""One stretch of a log: each entry against the one before it, and against its openings.

A log is cut into stretches that are checked side by side, so a stretch knows the line before and the line after it.
What is found is named as the portal's own verifier names it.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

from keystead.ledger import entry as rules
from keystead.ledger.entry import NotCanonical
from keystead.ledger.errors import ALTERED, DROPPED, INSERTED, SWAPPED, BundleMalformed
from keystead.ledger.note import VerifierKey
from keystead.ledger.tree import EMPTY_ROOT, leaf_hash

OPENED: Final = "ledger.opened"
REOPENED: Final = "ledger.reopened"
KEY_ACTS: Final = frozenset({"ledger.key_added", "ledger.key_retired"})
ERASURE: Final = "ledger.erasure"
_OPENING: Final = {"field", "i", "salt", "value"}


Fault: TypeAlias = "tuple[int, str, str]"


class Stretch(NamedTuple):
    """Lines to be checked.

    Args:
        log: the origin that each must name.
        epoch: of that log.
        start: the index of the first.
        before: the line before, None at the log's beginning.
        lines: the entries.
        after: the line that follows, None where they are the last there are.
        openings: of these entries.
        openings_start: how many were before.
    """

    log: str
    epoch: int
    start: int
    before: bytes | None
    lines: list[bytes]
    after: bytes | None
    openings: list[bytes]
    openings_start: int


@dataclass
class Checked:
    """What was found in a stretch.

    Args:
        hashes: of the leaves that fit, one after the other.
        missing: openings that are not there, (index, field); only an erasure may have taken them.
        erasures: what each `ledger.erasure` names: (its index, indexes, fields).
        opened: the number of openings that fit.
        fault: the first (index, fault, words) of the entries, None where all fit.
        opening_fault: the first of the openings; it counts where all entries fit.
        doubt: set where the fault is the last line's or the one's before it: the claimed hash of that, and its own.
        malformed: what is no part of a bundle.
    """

    hashes: bytes = b""
    missing: list[tuple[int, str]] = field(default_factory=list)
    erasures: list[tuple[int, list[int], list[str]]] = field(default_factory=list)
    opened: int = 0
    fault: Fault | None = None
    opening_fault: Fault | None = None
    doubt: tuple[bytes, bytes] | None = None
    malformed: str = ""


class _Found(Exception):  # noqa: N818
    """The first fault of a stretch."""

    def __init__(
        self, index: int, fault: str, what: str, *, doubt: tuple[bytes, bytes] | None = None
    ) -> None:
        super().__init__(what)
        self.fault: Fault = (index, fault, what)
        self.doubt = doubt


def check(stretch: Stretch) -> Checked:
    """Check a stretch of a log; what does not fit is told, not raised, because it may have been found elsewhere."""
    checked = Checked()
    hashes: list[bytes] = []
    chain = _Chain(stretch)
    try:
        openings = _Openings(stretch, checked)
        for line, after in _with_next(stretch):
            members = chain.add(line, after)
            hashes.append(chain.previous_hash)
            openings.check(members["i"], members.get("sealed"))
            if members["act"] == ERASURE:
                checked.erasures += _erased(members, stretch.epoch)
        openings.end()
    except _Found as found:
        checked.fault, checked.doubt = found.fault, found.doubt
    except BundleMalformed as error:
        checked.malformed = str(error)
    checked.hashes = b"".join(hashes)
    return checked


class _Chain:
    """What the next entry must refer to."""

    def __init__(self, stretch: Stretch) -> None:
        self.stretch = stretch
        self.index = stretch.start
        self.previous = _peek(stretch.before)
        self.previous_hash = EMPTY_ROOT if stretch.before is None else leaf_hash(stretch.before)
        self.prev = b64encode(self.previous_hash).decode()

    def add(self, line: bytes, after: bytes | None) -> dict[str, Any]:
        """Check one more line and return its members; `after` only helps to say what happened."""
        try:
            members = rules.read(line)
        except NotCanonical as error:
            raise _Found(self.index, ALTERED, f"its bytes are no entry ({error})") from None
        this_hash = leaf_hash(line)
        if members["i"] != self.index:
            raise self._misplaced(members, this_hash, after)
        if members["log"] != self.stretch.log:
            raise _Found(self.index, ALTERED, "it names another log")
        if members["prev"] != self.prev:
            raise self._unchained(members, this_hash, after)
        # Times of this form are in order as texts are.
        if self.previous and members["t"] < self.previous["t"]:
            raise _Found(self.index, ALTERED, "it is older than the entry before it")
        self._check_first(members)
        self.index += 1
        self.previous, self.previous_hash = members, this_hash
        self.prev = b64encode(this_hash).decode()
        return members

    def _misplaced(self, members: dict[str, Any], this_hash: bytes, after: bytes | None) -> _Found:
        """Say why the entry at an index says that it is another one."""
        index, told = self.index, members["i"]
        following = _peek(after)
        if members["prev"] == self.prev:
            return _Found(index, ALTERED, f"it says that it is entry {told}")
        if told == index - 1 and (following is None or following["i"] == index):
            genuine = following is not None and following["prev"] == b64encode(this_hash).decode()
            return _Found(index - 1 if genuine else index, INSERTED, "two entries claim this place")
        if told > index and (following is None or following["i"] == told + 1):
            return _Found(index, DROPPED, f"entry {told} stands in its place")
        return _Found(index, SWAPPED, f"entry {told} stands in its place")

    def _unchained(self, members: dict[str, Any], this_hash: bytes, after: bytes | None) -> _Found:
        """Say which of two neighbours changed: the one for which the next entry, or the root, does not vouch."""
        following = _peek(after)
        what = "it does not refer to the entry before it"
        if following and (following["i"], following["prev"]) == (self.index, self.prev):
            return _Found(self.index, INSERTED, what)
        if self.previous and following and following["prev"] == b64encode(this_hash).decode():
            return _Found(*before_altered(self.index))
        claimed = rules.digest(members["prev"]) or b""
        doubt = (claimed, this_hash) if self.previous and after is None else None
        return _Found(self.index, ALTERED, what, doubt=doubt)

    def _check_first(self, members: dict[str, Any]) -> None:
        opens = OPENED if self.stretch.epoch == 1 else REOPENED
        if (self.index == 0) != (members["act"] == opens):
            raise _Found(self.index, ALTERED, f"{opens} is the first entry and no other")
        told = members["data"].get("vkey")
        # A later entry that names no key at all says nothing of one.
        says = self.index == 0 or (members["act"] in KEY_ACTS and isinstance(told, str))
        if says and not _is_key_of(members["log"], told):
            raise _Found(self.index, ALTERED, "it carries no verifier key of this log")


def before_altered(index: int) -> Fault:
    """Return the fault of an entry that is not what the one at `index` refers to."""
    return (index - 1, ALTERED, "the next entry refers to other bytes than these")


class Opening(NamedTuple):
    """A sealed field's value: personal data. `i` is its entry's index; `salt` is base64, and as secret."""

    i: int
    field: str
    salt: str
    value: str

    def fits(self, commitment: str) -> bool:
        """Tell whether this is what was sealed."""
        salt = rules.digest(self.salt)
        return salt is not None and rules.commitment(self.field, self.value, salt) == commitment

    def canonical(self) -> str:
        """Return its line: 4,000,000 of these four members are written faster so than by the general writer."""
        return (
            f'{{"field":{rules.quoted(self.field)},"i":{self.i},'
            f'"salt":{rules.quoted(self.salt)},"value":{rules.quoted(self.value)}}}'
        )


def read_opening(line: bytes, number: int) -> Opening:
    """Read line `number` (from 1) of `sealed.jsonl`.

    Raises:
        BundleMalformed: it is none. Nothing of it is repeated.
    """
    try:
        members, text = rules.read_object(line)
    except NotCanonical:
        members, text = {}, ""
    if members.keys() == _OPENING:
        opening = Opening(members["i"], members["field"], members["salt"], members["value"])
        if type(opening.i) is int and 0 <= opening.i <= rules.MAX_INTEGER:
            texts = type(opening.field) is type(opening.salt) is type(opening.value) is str
            if texts and opening.canonical() == text:
                return opening
    raise BundleMalformed(f"sealed.jsonl, line {number}: not an opening")


class _Openings:
    """The openings of a stretch, beside its entries."""

    def __init__(self, stretch: Stretch, checked: Checked) -> None:
        self.checked = checked
        self.openings = self._read(stretch)
        self.next = next(self.openings, None)

    def check(self, index: int, sealed: dict[str, str] | None) -> None:
        """Compare one entry's commitments with its openings."""
        opening = self.next
        if sealed is None and (opening is None or opening.i > index):
            return
        missing = dict(sealed or {})
        while opening is not None and opening.i <= index:
            commitment = missing.pop(opening.field, None) if opening.i == index else None
            if commitment is None:
                self._found(orphan(opening))
            elif not opening.fits(commitment):
                self._found((index, ALTERED, f"the opening of {opening.field} is not what was sealed"))
            self.checked.opened += 1
            opening = self.next = next(self.openings, None)
        self.checked.missing += [(index, name) for name in missing]

    def end(self) -> None:
        """Refuse what is left when the entries have ended."""
        if self.next is not None:
            self._found(orphan(self.next))

    def _found(self, fault: Fault) -> None:
        self.checked.opening_fault = self.checked.opening_fault or fault

    @staticmethod
    def _read(stretch: Stretch) -> Iterator[Opening]:
        last = (stretch.start, "")
        for number, line in enumerate(stretch.openings, start=stretch.openings_start + 1):
            opening = read_opening(line, number)
            place = (opening.i, opening.field)
            if place <= last:
                raise BundleMalformed(f"sealed.jsonl, line {number}: out of order")
            last = place
            yield opening


def orphan(opening: Opening) -> Fault:
    """Return the fault of an opening that belongs to no entry."""
    return (opening.i, INSERTED, "an opening is of nothing that was sealed")


def _with_next(stretch: Stretch) -> Iterator[tuple[bytes, bytes | None]]:
    return zip(stretch.lines, [*stretch.lines[1:], stretch.after], strict=True)


def _peek(line: bytes | None) -> dict[str, Any] | None:
    try:
        return None if line is None else rules.read(line)
    except NotCanonical:
        return None


def _is_key_of(log: str, vkey: object) -> bool:
    try:
        return isinstance(vkey, str) and VerifierKey.parse(vkey).name == log
    except BundleMalformed:
        return False


def _erased(members: dict[str, Any], own_epoch: int) -> list[tuple[int, list[int], list[str]]]:
    """Return what an erasure took of this log: only of entries before it."""
    data, own = members["data"], members["i"]
    entries, fields, epoch = data.get("entries"), data.get("fields"), data.get("epoch", own_epoch)
    if not isinstance(entries, list) or not isinstance(fields, list) or type(epoch) is not int:
        return []
    if any(type(each) is not int for each in entries) or any(not isinstance(each, str) for each in fields):
        return []
    return [(own, [each for each in entries if 0 <= each < own], fields)] if epoch == own_epoch else []
