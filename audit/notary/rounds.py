"""One round: what grew is recomputed and compared with the file, written to it, then signed and published.

The order is the whole point. Nothing is signed that is not in the file, the file is on the disk before, and what is in
it is never signed otherwise. New entries are added to a tree that was computed from the ledger's first entry on, whose
root at the file's size was the file's: so every new root is consistent with the old one (spec LEDGER, "The notary").
"""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from audit import entry as entry_rules
from audit import note, stored
from audit.acts import Act
from audit.errors import CheckpointInvalid, EntryInvalid, Fault, NoteError
from audit.notary import publishing, reading, state
from audit.notary.alarms import Alarm, Alarms, Kind, Watch
from audit.notary.peaks import Node, Peaks
from audit.notary.reading import Head
from audit.notary.signing import Signers
from audit.notary.state import Signed, State
from audit.tree import Point

# A round reads so many new entries of a log at most, and so long of all: the rest is the next round's.
MOST_LEAVES: Final = 20_000
MOST_SECONDS: Final = 1.5
# A longer log is computed from its first entry by the sweep, so that the others needn't wait for it.
MOST_ANEW: Final = 50_000
# A log that grows all the time is signed so often, and what is signed is published again so often.
SIGNED_AGAIN: Final = timedelta(seconds=5)
PUBLISHED_AGAIN: Final = timedelta(minutes=10)
logger = structlog.get_logger("keystead.notary")


class Unfit(Exception):  # noqa: N818 - it is not an error of ours
    """A log that is not signed further, and why."""

    def __init__(self, epoch: int, index: int | None, kind: str, what: str) -> None:
        super().__init__(what)
        self.epoch, self.index, self.kind, self.what = epoch, index, kind, what


@dataclass(frozen=True, slots=True)
class Step:
    """How far a log may be signed now: its new place, and the tree that shows it."""

    signed: Signed
    peaks: Peaks
    # What takes the old epoch's place in the file where this one begins.
    closed: Signed | None = None


class Rounds:
    """The notary's work on one folder and one database, in rounds; `state` is what its file holds."""

    def __init__(self, folder: Path, signers: Signers, found: State, alarms: Alarms) -> None:
        self.folder = folder
        self.signers = signers
        self.state = found
        self.alarms = alarms
        self.pause = SIGNED_AGAIN
        self._trees: dict[str, Peaks] = {}
        self._offered: dict[str, Peaks] = {}
        self._nodes: dict[str, list[Node]] = {}
        self._signed_at: dict[str, datetime] = {}
        self._published_at: dict[str, datetime] = {}

    def run(self, now: datetime) -> int:
        """Sign and publish what grew; return the number of logs that were signed further.

        Raises `OSError` where the file can't be written: the process must end. `DatabaseError` is no such end: what
        is in the file and not published yet is published by a later round.
        """
        steps = self._steps(now)
        if steps:
            self._write(steps, now)
        self._publish(now)
        return len(steps)

    def offer(self, signed: Signed, peaks: Peaks) -> None:
        """Take over a tree that a sweep computed from the first entry on; from its thread, for a later round."""
        if signed.origin not in self._trees:
            self._offered[signed.origin] = peaks.copy()

    def publish_again(self, signed: Signed, since: datetime) -> None:
        """Publish a log's checkpoint in the next round, because the one published before `since` is not there."""
        at = self._published_at.get(signed.origin)
        if at is not None and at < since:
            self._published_at.pop(signed.origin, None)
            logger.error("a published checkpoint is gone", origin=signed.origin, size=signed.point.size)

    def _steps(self, now: datetime) -> list[Step]:
        """Find what may be signed, the logs that grew least first; say of every other what is wrong."""
        deadline = time.monotonic() + MOST_SECONDS
        newest, steps, unfit = self.state.newest, [], {}
        with stored.snapshot(reading.USING):
            heads = reading.heads()
            for gone in newest.keys() - {head.organization_id for head in heads}:
                unfit[gone] = Unfit(newest[gone].epoch, 0, Kind.ROLLED_BACK, "the ledger is gone")
            for head in sorted(heads, key=lambda h: h.size - _size(newest.get(h.organization_id))):
                try:
                    step = self._step(head, newest.get(head.organization_id), now, deadline)
                except Unfit as reason:
                    unfit[head.organization_id] = reason
                else:
                    steps += [step] if step else []
        self._tell(unfit, now)
        return steps

    def _tell(self, unfit: dict[str, Unfit], now: datetime) -> None:
        for organization_id, reason in unfit.items():
            alarm = Alarm(
                organization_id=organization_id,
                epoch=reason.epoch,
                index=reason.index,
                kind=reason.kind,
                what=reason.what,
            )
            self.alarms.begin(Watch.ROUND, alarm, now)
        self.alarms.end_others(Watch.ROUND, unfit)

    def _step(self, head: Head, signed: Signed | None, now: datetime, deadline: float) -> Step | None:
        """Judge one head by what the file says. Raises `Unfit`."""
        closed = None
        if signed and head.epoch < signed.epoch:
            what = f"epoch {signed.epoch} was signed, the ledger is back in epoch {head.epoch}"
            raise Unfit(head.epoch, head.size, Kind.ROLLED_BACK, what)
        if signed is None or head.epoch > signed.epoch:
            _check_name(head)
            if head.size and head.epoch > 1:
                closed = self._reopened(head, signed)
            signed = _unsigned(head)
        if head.origin != signed.origin:
            raise Unfit(head.epoch, None, Fault.ALTERED, "the head names another log than was signed")
        if head.size < signed.point.size:
            what = f"{signed.point.size} entries were signed, the ledger ends at {head.size}"
            raise Unfit(head.epoch, head.size, Kind.ROLLED_BACK, what)
        if head.size == signed.point.size:
            self._check_last(head)
            return None
        if self._waits(head, now) or time.monotonic() > deadline:
            return None
        peaks = self._grown(head, signed, deadline)
        if peaks is None or peaks.size == signed.point.size:
            return None
        return Step(state.signed(head.origin, Point(peaks.size, peaks.root())), peaks, closed)

    def _waits(self, head: Head, now: datetime) -> bool:
        earlier = self._signed_at.get(head.origin)
        return self.alarms.stops(head.organization_id, head.epoch) or (
            earlier is not None and earlier <= now < earlier + self.pause
        )

    def _check_last(self, head: Head) -> None:
        peaks = self._trees.get(head.origin)
        if peaks is not None and peaks.size == head.size and peaks.last != head.last_hash:
            what = f"another entry stands at the end of the {head.size} that were signed"
            raise Unfit(head.epoch, None, Kind.REWRITTEN, what)

    def _grown(self, head: Head, signed: Signed, deadline: float) -> Peaks | None:
        """Return the log's tree with as many of its new entries as this round may read."""
        peaks = self._tree(signed)
        if peaks is None:
            return None
        peaks = peaks.copy()
        end = min(head.size, peaks.size + MOST_LEAVES)
        for index, leaf in reading.leaves(head.organization_id, head.epoch, peaks.size, end):
            _check_follows(head, peaks, index, leaf)
            peaks.append(entry_rules.leaf_hash(leaf))
            if time.monotonic() > deadline:
                return peaks
        if peaks.size < end:
            raise Unfit(head.epoch, peaks.size, Fault.DROPPED, f"the head counts {head.size} entries")
        if peaks.size == head.size and peaks.last != head.last_hash:
            raise Unfit(head.epoch, head.size - 1, Fault.ALTERED, "the head and the last entry differ")
        return peaks

    def _tree(self, signed: Signed) -> Peaks | None:
        """Return the tree over what was signed, computed from the first entry on; None where the sweep must do it."""
        peaks = self._trees.get(signed.origin) or self._offered.pop(signed.origin, None)
        if peaks is None or peaks.size != signed.point.size:
            peaks = _anew(signed) if signed.point.size <= MOST_ANEW else None
        if peaks is not None and peaks.root() != signed.point.root:
            what = f"another root stands at the {signed.point.size} entries that were signed"
            raise Unfit(signed.epoch, None, Kind.REWRITTEN, what)
        if peaks is not None:
            self._trees[signed.origin] = peaks
        return peaks

    def _reopened(self, head: Head, old: Signed | None) -> Signed | None:
        """Check that a new epoch carries the old one's last checkpoint; return how the old one is kept from now on."""
        [(_, leaf), *_] = [*reading.leaves(head.organization_id, head.epoch, 0, 1)] or [(0, b"")]
        told = self._told(head, leaf)
        if old is None:
            return None
        # Of the epochs in between, where there were any, nothing was ever signed.
        if told != note.Checkpoint(old.origin, old.point.size, old.point.root):
            what = f"its first entry does not carry the last checkpoint of epoch {old.epoch}"
            raise Unfit(head.epoch, 0, Kind.REOPENED, what)
        kept = Peaks()
        for _, each in reading.leaves(old.organization_id, old.epoch, 0, entry_rules.MAX_INTEGER):
            kept.append(entry_rules.leaf_hash(each))
        return state.signed(old.origin, old.point, Point(kept.size, kept.root()))

    def _told(self, head: Head, leaf: bytes) -> note.Checkpoint:
        host = head.origin.partition("/")[0]
        try:
            entry = entry_rules.parse(leaf)
            carried = entry.data.get("checkpoint")
            if entry.act == Act.LEDGER_REOPENED and isinstance(carried, str):
                epoch = entry_rules.epoch_of(note.text_of(carried).partition("\n")[0])
                origin = entry_rules.origin(host, head.organization_id, min(epoch, head.epoch - 1))
                return note.open_checkpoint(carried, origin, self.signers.trusted(origin))
        except (EntryInvalid, NoteError, CheckpointInvalid):
            pass
        raise Unfit(head.epoch, 0, Kind.REOPENED, "its first entry carries no checkpoint that we signed")

    def _write(self, steps: list[Step], now: datetime) -> None:
        changed = [signed for step in steps for signed in (step.signed, step.closed) if signed]
        written = self.state.after(*changed)
        state.save(self.folder, written)
        self.state = written
        for step in steps:
            origin = step.signed.origin
            self._nodes.setdefault(origin, []).extend(step.peaks.nodes)
            step.peaks.nodes = []
            self._trees[origin] = step.peaks
            self._signed_at[origin] = now
            self._published_at.pop(origin, None)

    def _publish(self, now: datetime) -> None:
        """Publish what is in the file and not in the table yet, and again what was published ten minutes ago."""
        due = [
            signed
            for signed in self.state.newest.values()
            if not (at := self._published_at.get(signed.origin)) or not at <= now < at + PUBLISHED_AGAIN
        ]
        if not due:
            return
        accepted = self._put(due, now)
        for signed in due:
            self._published_at[signed.origin] = now
            self._nodes.pop(signed.origin, None)
            if signed.origin in accepted:
                self.alarms.end(Watch.PUBLISHED, signed.organization_id)

    def _put(self, due: list[Signed], now: datetime) -> set[str]:
        """Sign and write what is due; return the origins of what now stands in the table."""
        announced = reading.announced(due)
        notes = []
        for signed in due:
            text = self.signers.sign(signed, announced[signed.origin])
            if text is None:
                self._unpublished(signed, Kind.KEY, "the ledger names no key that this notary holds", now)
            else:
                notes.append((signed, text))
            self._tell_of_keys(signed, self.signers.missing(signed.origin, announced[signed.origin]), now)
        nodes = [(signed, node) for signed in due for node in self._nodes.get(signed.origin, [])]
        accepted = publishing.publish(notes, nodes, now)
        for signed, _ in notes:
            if signed.origin not in accepted:
                what = f"another root is published for {signed.point.size} entries"
                self._unpublished(signed, Kind.CHECKPOINT, what, now)
        return accepted

    def _tell_of_keys(self, signed: Signed, missing: list[str], now: datetime) -> None:
        """Say where a ledger announces a key that is not in the folder: it may be somebody else's."""
        if not missing:
            self.alarms.end(Watch.KEYS, signed.organization_id)
            return
        ids = ", ".join(vkey.split("+")[1] for vkey in missing)
        alarm = Alarm(
            organization_id=signed.organization_id,
            epoch=signed.epoch,
            index=None,
            kind=Kind.KEY,
            what=f"the ledger names a key that this notary does not hold ({ids})",
        )
        self.alarms.begin(Watch.KEYS, alarm, now)

    def _unpublished(self, signed: Signed, kind: Kind, what: str, now: datetime) -> None:
        alarm = Alarm(
            organization_id=signed.organization_id, epoch=signed.epoch, index=None, kind=kind, what=what
        )
        self.alarms.begin(Watch.PUBLISHED, alarm, now)


def _anew(signed: Signed) -> Peaks:
    peaks = Peaks()
    for index, leaf in reading.leaves(signed.organization_id, signed.epoch, 0, signed.point.size):
        if index != peaks.size:
            break
        peaks.append(entry_rules.leaf_hash(leaf))
    if peaks.size < signed.point.size:
        raise Unfit(signed.epoch, peaks.size, Fault.DROPPED, "a signed entry is missing")
    return peaks


def _size(signed: Signed | None) -> int:
    return signed.point.size if signed else 0


def _check_name(head: Head) -> None:
    try:
        expected = entry_rules.origin(head.origin.partition("/")[0], head.organization_id, head.epoch)
    except EntryInvalid:
        expected = ""
    if head.origin != expected:
        raise Unfit(head.epoch, 0, Fault.ALTERED, "the head does not name this organization's log")


def _unsigned(head: Head) -> Signed:
    return state.signed(head.origin, Point(0, Peaks().root()))


def _check_follows(head: Head, peaks: Peaks, index: int, leaf: bytes) -> None:
    """Refuse what is no entry, which once signed nobody could verify, or does not name its log, place and predecessor.

    The sweep checks the rest.
    """
    if index != peaks.size:
        raise Unfit(head.epoch, peaks.size, Fault.DROPPED, f"the next entry there is has index {index}")
    try:
        entry = entry_rules.parse(leaf)
    except EntryInvalid as error:
        what = f"its bytes are no entry ({error})"
        raise Unfit(head.epoch, index, Fault.ALTERED, what) from None
    if (entry.log, entry.i, entry.prev) != (head.origin, index, peaks.last):
        raise Unfit(head.epoch, index, Fault.ALTERED, "it does not follow the entry before it")
