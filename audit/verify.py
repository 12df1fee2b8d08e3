"""Recomputing one ledger from its rows: no hash, index, time or projection is believed.

What it finds is every change to a part of the rows: an entry altered, dropped, swapped or inserted, a projection, an
opening or the head that no longer fits; and, by the checkpoints in the database, a chain that was cut or rewritten to
its end. Against whoever rewrites those too stand the checkpoints that others hold (spec LEDGER, "The notary"). It reads
values alone, so that a test can hand it any tampering.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from audit import entry as entry_rules
from audit import note
from audit.acts import Act
from audit.entry import ParsedEntry
from audit.erasing import erasures
from audit.errors import EntryInvalid, Fault, LedgerFaulty, ReopeningRefused, VerifierKeyInvalid
from audit.signatures import epochs, key_life
from audit.signatures.epochs import Left
from audit.tree import EMPTY_ROOT, Point, Tree

type Position = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An entry as the table holds it. `at` is UTC in ISO 8601 with microseconds and without an offset."""

    epoch: int
    index: int
    leaf: bytes
    act: str
    actor: str
    target: str
    request_id: str
    at: str

    @property
    def position(self) -> Position:
        """Where it stands: (epoch, index)."""
        return self.epoch, self.index


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A sealed field's value as the table holds it: personal data, and the salt is as secret."""

    epoch: int
    index: int
    field: str
    salt: bytes
    value: str

    @property
    def position(self) -> Position:
        """Where its entry stands: (epoch, index)."""
        return self.epoch, self.index


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where the table says that the ledger ends; `last_at` as in `Row`, of no meaning in an empty ledger."""

    origin: str
    epoch: int
    size: int
    last_hash: bytes
    last_at: str


@dataclass(frozen=True, slots=True)
class Verified:
    """The newest epoch of a ledger in which everything fits: its number of entries and the 32-byte root over them."""

    epoch: int
    size: int
    root: bytes


def verify(
    organization_id: str,
    head: Head | None,
    rows: Iterable[Row],
    openings: Iterable[Opening],
    signed: Iterable[Point] = (),
    *,
    since: int = 1,
) -> Verified:
    """Recompute a ledger and return its size and root.

    `rows` and `openings` are all that the tables hold of it, in order of epoch and index; `signed` are the sizes of
    its newest epoch that have a checkpoint, in order. Each is read once, as a stream. Raises `LedgerFaulty` at the
    first entry that does not fit; where all do, at the first opening that does not, or is missing while no later
    `ledger.erasure` names it (spec LEDGER, Bytes 11).

    `since`: the epoch from which on rows and openings are given, where an earlier one is known to be faulty and the
    ledger went on without it. What is said of those before is not looked at then.
    """
    if head is None:
        raise LedgerFaulty(1, 0, Fault.DROPPED, "the ledger has no head")
    ledger = _Ledger(head, _log_of(organization_id, head), since)
    opened, checkpoints = _Openings(iter(openings)), _Checkpoints(head.epoch, iter(signed))
    for row, following in _with_next(rows):
        opened.check(row.position, ledger.add(row, following))
        checkpoints.check(ledger.epoch, ledger.tree)
    ledger.end()
    checkpoints.end(ledger.tree)
    opened.end()
    return Verified(head.epoch, ledger.tree.size, ledger.tree.root())


def opening_fits(opening: Opening, commitment: str) -> bool:
    """Tell whether an opening is what the entry sealed (spec LEDGER, Bytes 11)."""
    try:
        return entry_rules.commit(opening.field, opening.value, opening.salt) == commitment
    except EntryInvalid:
        return False


class _Ledger:
    """The chain so far: the tree over it, and what the next entry must refer to."""

    def __init__(self, head: Head, log_of: Callable[[int], str], epoch: int) -> None:
        self.head = head
        self.log_of = log_of
        self.epoch = epoch
        # Something before was left out: what the first entries of epochs say of it can't be judged.
        self.is_late = epoch > 1
        self.tree = Tree()
        self.previous: ParsedEntry | None = None
        self.previous_hash = entry_rules.genesis_prev()
        self.left: Left | None = None
        self.announced: dict[int, list[str]] = {}

    def add(self, row: Row, following: Row | None) -> ParsedEntry:
        """Check one more row. `following` only helps to say what happened, where something did."""
        self._check_place(row)
        entry = self._parsed(row)
        if entry.i != row.index:
            raise self._misplaced(row, entry, following)
        if entry.log != self.log_of(self.epoch):
            raise self._fault(Fault.ALTERED, "it names another log")
        if entry.prev != self.previous_hash:
            raise self._unchained(row, following)
        self._check_order(entry)
        self._check_first(entry)
        self._check_projection(row, entry)
        self.previous, self.previous_hash = entry, entry_rules.leaf_hash(row.leaf)
        self.tree.append(self.previous_hash)
        return entry

    def end(self) -> None:
        """Compare the head with where the entries ended."""
        head, size = self.head, self.tree.size
        same_hash = head.last_hash == self.previous_hash
        if head.epoch != self.epoch and size:
            raise self._fault(Fault.DROPPED, f"the head is in epoch {head.epoch}")
        if head.size != size:
            fault = Fault.ALTERED if same_hash and size else Fault.DROPPED
            raise self._fault(fault, f"the head counts {head.size} entries, there are {size}")
        if not same_hash:
            raise self._fault(Fault.ALTERED, "the head and the last entry differ", index=max(0, size - 1))
        if self.previous and head.last_at != _microseconds(self.previous):
            raise self._fault(Fault.ALTERED, "the head has another time than the last entry", index=size - 1)

    def _check_place(self, row: Row) -> None:
        if row.position >= (self.head.epoch, self.head.size):
            raise self._behind_the_end(row)
        # Epochs in between may be lost: then the entry that opens this one says where the ledger was left.
        if row.epoch > self.epoch and row.index == 0 and self.is_late and not self.previous:
            self.epoch = row.epoch
        elif row.epoch > self.epoch and row.index == 0 and self.previous:
            self.left = Left(
                epoch=self.epoch, size=self.tree.size, last=self.previous_hash, at=self.previous.t
            )
            self.epoch, self.tree = row.epoch, Tree()
            self.previous, self.previous_hash = None, entry_rules.genesis_prev()
        if row.position != (self.epoch, self.tree.size):
            raise self._fault(
                Fault.DROPPED, f"the next entry there is has epoch {row.epoch}, index {row.index}"
            )

    def _behind_the_end(self, row: Row) -> LedgerFaulty:
        """Say why there is more than the head counts; the true last entry, moved down, tells of one above it."""
        told, index, fault = _peek(row), row.index, Fault.INSERTED
        if told and entry_rules.leaf_hash(row.leaf) == self.head.last_hash:
            index, fault = told.i, Fault.ALTERED if told.i == row.index else Fault.INSERTED
        what = f"the head ends epoch {self.head.epoch} at {self.head.size} entries"
        return LedgerFaulty(row.epoch, index, fault, what)

    def _parsed(self, row: Row) -> ParsedEntry:
        try:
            return entry_rules.parse(row.leaf)
        except EntryInvalid as error:
            raise self._fault(Fault.ALTERED, f"its bytes are no entry ({error})") from None

    def _misplaced(self, row: Row, entry: ParsedEntry, following: Row | None) -> LedgerFaulty:
        """Say why the entry at an index says that it is another one."""
        after = _peek(following)
        if entry.prev == self.previous_hash:
            return self._fault(Fault.ALTERED, f"it says that it is entry {entry.i}")
        if entry.i == row.index - 1 and (after is None or after.i == row.index):
            genuine = after is not None and after.prev == entry_rules.leaf_hash(row.leaf)
            return self._fault(
                Fault.INSERTED, "two entries claim this place", index=row.index - 1 if genuine else row.index
            )
        if entry.i > row.index and (after is None or after.i == entry.i + 1):
            return self._fault(Fault.DROPPED, f"entry {entry.i} stands in its place")
        return self._fault(Fault.SWAPPED, f"entry {entry.i} stands in its place")

    def _unchained(self, row: Row, following: Row | None) -> LedgerFaulty:
        """Say which of two neighbours changed: the one for which the next entry, or the head, does not vouch."""
        after = _peek(following)
        if after and (after.i, after.prev) == (row.index, self.previous_hash):
            return self._fault(Fault.INSERTED, "it does not refer to the entry before it")
        vouching = after.prev if after else None if following else self.head.last_hash
        if self.previous and vouching == entry_rules.leaf_hash(row.leaf):
            return self._fault(
                Fault.ALTERED, "the next entry refers to other bytes than these", index=row.index - 1
            )
        return self._fault(Fault.ALTERED, "it does not refer to the entry before it")

    def _check_order(self, entry: ParsedEntry) -> None:
        if self.previous and entry.t < self.previous.t:
            raise self._fault(Fault.ALTERED, "it is older than the entry before it")

    def _check_first(self, entry: ParsedEntry) -> None:
        opens = Act.LEDGER_OPENED if self.epoch == 1 else Act.LEDGER_REOPENED
        if (entry.i == 0) != (entry.act == opens):
            raise self._fault(Fault.ALTERED, f"{opens} is the first entry and no other")
        told = key_life.event(entry)
        if (told is None and entry.i == 0) or (told and not _is_key_of(entry.log, told.vkey)):
            raise self._fault(Fault.ALTERED, "it carries no verifier key of this log")
        if self.left and told and entry.i == 0:
            self._check_reopened(self.left, entry, told.vkey)
        if told and told.act != Act.LEDGER_KEY_RETIRED:
            self.announced.setdefault(self.epoch, []).append(told.vkey)

    def _check_reopened(self, left: Left, entry: ParsedEntry, vkey: str) -> None:
        """Check that a new epoch begins where the old one was left, and carries a checkpoint of an earlier one."""
        size = epochs.counted(entry, left.epoch)
        if size is not None and size > left.size:
            what = f"the next epoch says that there were {size} entries"
            raise LedgerFaulty(left.epoch, left.size, Fault.DROPPED, what)
        if size == left.size and entry.data["left"] != left.data():
            what = "the next epoch refers to other bytes than these"
            raise LedgerFaulty(left.epoch, left.size - 1, Fault.ALTERED, what)
        if size is not None and size < left.size:
            what = f"the next epoch says that there were {size} entries"
            raise LedgerFaulty(left.epoch, size, Fault.INSERTED, what)
        if size is None:
            raise self._fault(
                Fault.DROPPED, f"it does not go on from epoch {left.epoch}, which is the one before"
            )
        if left.at and entry.t < left.at:
            raise self._fault(Fault.ALTERED, "it is older than the entry before it")
        if self.is_late:
            return
        try:
            epochs.open_carried(entry.data.get("checkpoint"), entry.log, vkey, self.announced)
        except ReopeningRefused as error:
            what = f"it carries no checkpoint of an earlier epoch ({error})"
            raise self._fault(Fault.ALTERED, what) from None

    def _check_projection(self, row: Row, entry: ParsedEntry) -> None:
        columns = {
            "act": (row.act, entry.act),
            "actor": (row.actor, entry.actor),
            "target": (row.target, entry.data.get("target", "")),
            "request_id": (row.request_id, entry.data.get("request_id", "")),
            "at": (row.at, _microseconds(entry)),
        }
        for column, (stored, told) in columns.items():
            if stored != told:
                raise self._fault(Fault.ALTERED, f"the column {column} is not what the entry says")

    def _fault(self, fault: Fault, what: str, index: int | None = None) -> LedgerFaulty:
        return LedgerFaulty(self.epoch, self.tree.size if index is None else index, fault, what)


class _Checkpoints:
    """The stream of what was signed beside the stream of entries: what agrees with itself may be rewritten whole."""

    def __init__(self, epoch: int, points: Iterator[Point]) -> None:
        self.epoch = epoch
        self.points = points
        self.next = next(points, None)

    def check(self, epoch: int, tree: Tree) -> None:
        """Compare the root over the entries so far, where one of that size was signed."""
        if self.next is None or epoch != self.epoch or self.next.size != tree.size:
            return
        if self.next.root != tree.root():
            what = f"another root was signed over these {tree.size} entries"
            raise LedgerFaulty(epoch, tree.size - 1, Fault.ALTERED, what)
        self.next = next(self.points, None)

    def end(self, tree: Tree) -> None:
        """Refuse a ledger that ends before what was signed."""
        if self.next is not None:
            what = f"{self.next.size} entries were signed, there are {tree.size}"
            raise LedgerFaulty(self.epoch, tree.size, Fault.DROPPED, what)


class _Openings:
    """The stream of openings beside the stream of entries.

    That one is missing is known when the entries have ended: what erased it stands behind. So every fault waits until
    then, or a later one would be named before it.
    """

    def __init__(self, openings: Iterator[Opening]) -> None:
        self.openings = openings
        self.next = next(openings, None)
        self.missing = erasures.Missing()
        self.fault: LedgerFaulty | None = None

    def check(self, position: Position, entry: ParsedEntry) -> None:
        """Compare one entry's commitments with its openings."""
        erasure = erasures.read(entry.data, position[0]) if entry.act == Act.LEDGER_ERASURE else None
        if erasure:
            self.missing.account(erasure)
        sealed = dict(entry.sealed)
        while self.next is not None and self.next.position <= position:
            opening = self.next
            self.next = next(self.openings, None)
            commitment = sealed.pop(opening.field, None) if opening.position == position else None
            if commitment is None:
                self._found(opening.position, Fault.INSERTED, "an opening is of nothing that was sealed")
            elif not opening_fits(opening, commitment):
                self._found(position, Fault.ALTERED, f"the opening of {opening.field} is not what was sealed")
        for name in sealed:
            self.missing.add(position, name)

    def end(self) -> None:
        """Raise the first fault, now that the entries have ended."""
        if self.next is not None:
            self._found(self.next.position, Fault.INSERTED, "an opening is of nothing that was sealed")
        missing, found = self.missing.first(), self.fault
        if missing and (found is None or missing[0] < (found.epoch, found.index)):
            raise LedgerFaulty(*missing[0], Fault.DROPPED, f"the opening of {missing[1]} is missing")
        if found:
            raise found

    def _found(self, position: Position, fault: Fault, what: str) -> None:
        self.fault = self.fault or LedgerFaulty(*position, fault, what)


def _log_of(organization_id: str, head: Head) -> Callable[[int], str]:
    """Return epoch → the name of the log then, from the host that the head's name begins with."""
    host = head.origin.partition("/")[0]

    def log(epoch: int) -> str:
        return entry_rules.origin(host, organization_id, epoch)

    try:
        fits = head.origin == log(head.epoch) and (head.size > 0 or head.last_hash == EMPTY_ROOT)
    except EntryInvalid:
        fits = False
    if not fits:
        raise LedgerFaulty(head.epoch, 0, Fault.ALTERED, "the head does not name this organization's log")
    return log


def _with_next(rows: Iterable[Row]) -> Iterator[tuple[Row, Row | None]]:
    stream = iter(rows)
    row = next(stream, None)
    while row is not None:
        following = next(stream, None)
        yield row, following
        row = following


def _peek(row: Row | None) -> ParsedEntry | None:
    try:
        return entry_rules.parse(row.leaf) if row else None
    except EntryInvalid:
        return None


def _is_key_of(log: str, vkey: object) -> bool:
    try:
        return isinstance(vkey, str) and note.VerifierKey.parse(vkey).name == log
    except VerifierKeyInvalid:
        return False


def _microseconds(entry: ParsedEntry) -> str:
    return entry.t.replace(tzinfo=None).isoformat(timespec="microseconds")
