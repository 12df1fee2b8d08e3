"""Recomputing everything, all the time: hashes in one stream over all ledgers, and each ledger by every rule in turn.

The first pass is fast and compares with what was signed: whoever changes, drops or swaps entries, or rewrites a whole
chain, is found by the root. The second is `audit.verify`, which also knows projections, openings and times, and names
the entry. Both read through connections of their own, beside the rounds.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog
from django.db import DataError, InternalError, ProgrammingError
from django.utils import timezone

from audit import entry as entry_rules
from audit import note, stored
from audit.errors import CheckpointInvalid, Fault, LedgerFaulty, NoteError
from audit.notary import published as shown
from audit.notary import publishing, reading
from audit.notary.alarms import Alarm, Alarms, Kind, Watch
from audit.notary.peaks import Node, Peaks
from audit.notary.published import Place, Range
from audit.notary.reading import USING, Leaf
from audit.notary.rounds import Rounds
from audit.notary.state import Signed
from audit.stored import Ledger
from audit.tree import Point
from audit.verify import Row, verify

# A ledger up to this size is verified by every rule once its hashes don't fit any more, to name the entry.
NAMED_AT_ONCE: Final = 20_000
# Small ledgers are verified together, so that a thousand of them are not thousands of queries.
AT_ONCE: Final = 2_000
MOST_REPAIRED: Final = 10_000
# What PostgreSQL answers where rows are such that it can't give them out.
UNREADABLE: Final = (DataError, InternalError, ProgrammingError)
logger = structlog.get_logger("keystead.notary")


class StopSweep(Exception):  # noqa: N818 - it is not an error
    """The notary ends."""


@dataclass(slots=True)
class Watched:
    """One log while its leaves stream by, up to where it was signed."""

    signed: Signed
    end: Point
    peaks: Peaks = field(default_factory=Peaks)
    wrong: Alarm | None = None
    # What is published otherwise, while the leaves may be right.
    claim: Alarm | None = None
    repairs: list[tuple[Signed, Node]] = field(default_factory=list)

    def alarm(self, index: int | None, kind: str, what: str) -> Alarm:
        """Return an alarm about this log."""
        return Alarm(
            organization_id=self.signed.organization_id,
            epoch=self.signed.epoch,
            index=index,
            kind=kind,
            what=what,
        )

    def add(self, leaf: Leaf) -> None:
        """Take the next entry in; what stands behind the end is a round's to look at."""
        if self.wrong or leaf.i >= self.end.size:
            return
        if leaf.i != self.peaks.size:
            self.wrong = self.alarm(
                self.peaks.size, Fault.DROPPED, f"the next entry there is has index {leaf.i}"
            )
            return
        self.peaks.append(entry_rules.leaf_hash(leaf.leaf))

    def close(self) -> None:
        """Judge the log when its last entry has gone by."""
        if self.wrong is None and self.peaks.size < self.end.size:
            what = f"{self.end.size} entries were signed, {self.peaks.size} are there"
            self.wrong = self.alarm(self.peaks.size, Fault.DROPPED, what)
        if self.wrong is None and self.peaks.root() != self.end.root:
            what = f"another root stands at the {self.end.size} entries that were signed"
            self.wrong = self.alarm(None, Kind.REWRITTEN, what)


class HashSweep:
    """One pass over the hashes of all ledgers."""

    def __init__(self, rounds: Rounds, alarms: Alarms, is_stopped: Callable[[], bool]) -> None:
        self.rounds = rounds
        self.alarms = alarms
        self.is_stopped = is_stopped
        self.waiting: dict[Place, Signed] = {}
        self.watched: Watched | None = None
        self.found: dict[str, Alarm] = {}

    def run(self) -> set[str]:
        """Recompute everything that was signed; return the organizations whose ledger does not fit.

        Raises `StopSweep` and `DatabaseError`.
        """
        began = timezone.now()
        self.waiting = dict(self.rounds.state.places)
        for page in reading.everything():
            if self.is_stopped():
                raise StopSweep
            self._page(page)
        self._close()
        # What has no entry at all never came by.
        for signed in list(self.waiting.values()):
            self._open((signed.organization_id, signed.epoch))
            self._close()
        self._newest(began)
        self.alarms.end_others(Watch.HASHED, self.found)
        return set(self.found)

    def _page(self, page: Sequence[Leaf]) -> None:
        checkpoints = shown.roots(_ranges(page))
        for leaf in page:
            place = (leaf.organization_id, leaf.epoch)
            if self.watched is None or _place(self.watched) != place:
                self._close()
                self._open(place)
            if (watched := self.watched) is not None:
                watched.add(leaf)
                if watched.peaks.size == leaf.i + 1:
                    self._compare(watched, checkpoints)
        if self.watched:
            _compare_nodes(self.watched)

    def _open(self, place: Place) -> None:
        signed = self.waiting.pop(place, None)
        self.watched = Watched(signed, signed.kept or signed.point) if signed else None

    def _compare(self, watched: Watched, checkpoints: dict[tuple[str, int, int], bytes]) -> None:
        """Compare a published root with the one of these leaves; of a closed epoch nothing new is claimed."""
        told = checkpoints.get((*_place(watched), watched.peaks.size))
        if told is None or watched.signed.kept or told == watched.peaks.root():
            return
        what = f"another root is published for {watched.peaks.size} entries"
        watched.claim = watched.alarm(None, Kind.CHECKPOINT, what)

    def _close(self) -> None:
        watched, self.watched = self.watched, None
        if watched is None:
            return
        watched.close()
        if alarm := watched.wrong or watched.claim:
            self._report(alarm, watched.end.size)
        if watched.wrong is None:
            self.rounds.offer(watched.signed, watched.peaks)
            _compare_nodes(watched)
            _repair(watched)

    def _report(self, alarm: Alarm, size: int) -> None:
        self.found.setdefault(alarm.organization_id, alarm)
        is_new = self.alarms.begin(Watch.HASHED, alarm, timezone.now())
        if is_new and size <= NAMED_AT_ONCE and alarm.kind != Kind.CHECKPOINT:
            verify_one(alarm.organization_id, self.alarms, self.is_stopped)

    def _newest(self, began: datetime) -> None:
        """Look at each ledger's newest checkpoint: none may be beyond the file, and the file's must be there."""
        logs = self.rounds.state.newest
        for organization_id, epoch, size in shown.newest(list(logs)):
            signed = self.rounds.state.newest[organization_id]
            if (epoch, size) > (signed.epoch, signed.point.size):
                what = f"a checkpoint of {size} entries is published that we did not sign"
                alarm = Watched(signed, signed.point).alarm(None, Kind.CHECKPOINT, what)
                self._report(alarm, size)
            if (epoch, size) < (logs[organization_id].epoch, logs[organization_id].point.size):
                self.rounds.publish_again(logs[organization_id], began)


def together(sizes: Iterable[tuple[str, int]]) -> Iterator[list[str]]:
    """Yield (organization, entries) in lists that are worth one view of the database: no more entries than a few."""
    chosen: list[str] = []
    entries = 0
    for organization_id, size in sizes:
        if chosen and entries + size > AT_ONCE:
            yield chosen
            chosen, entries = [], 0
        chosen.append(organization_id)
        entries += size
    if chosen:
        yield chosen


def verify_ledgers(organizations: Sequence[str], alarms: Alarms, is_stopped: Callable[[], bool]) -> None:
    """Recompute ledgers that follow upon each other by every rule, and begin or end the alarm about each.

    Together, in one view of the database; where that can't be read, each alone.

    Raises `StopSweep` and `DatabaseError`.
    """
    if len(organizations) > 1:
        with suppress(*UNREADABLE), stored.snapshot(USING):
            for ledger in stored.ledgers(organizations, USING):
                _tell(alarms, ledger.organization_id, _judged(ledger, is_stopped))
            return
    for each in organizations:
        verify_one(each, alarms, is_stopped)


def verify_one(organization_id: str, alarms: Alarms, is_stopped: Callable[[], bool]) -> None:
    """Recompute one ledger by every rule, in a view of its own, and begin or end the alarm about it.

    That the database refuses to show a ledger is an alarm too: somebody may have wanted it.

    Raises `StopSweep` and `DatabaseError`.
    """
    try:
        with stored.snapshot(USING):
            alarm = _judged(stored.ledger(organization_id, USING), is_stopped)
    except UNREADABLE as error:
        what = f"the database does not show the ledger: {str(error).strip().partition('\n')[0]}"
        alarm = Alarm(organization_id=organization_id, epoch=1, index=None, kind=Kind.UNREADABLE, what=what)
    _tell(alarms, organization_id, alarm)


def _tell(alarms: Alarms, organization_id: str, alarm: Alarm | None) -> None:
    if alarm:
        alarms.begin(Watch.VERIFIED, alarm, timezone.now())
    else:
        alarms.end(Watch.VERIFIED, organization_id)


def _judged(ledger: Ledger, is_stopped: Callable[[], bool]) -> Alarm | None:
    """Return what is wrong with a ledger.

    A fault in an epoch that was left stands for ever, so the epochs behind it are looked at all the same, and the
    newest faulty one is told.
    """
    alarm, since = None, 1
    while fault := _fault(ledger, since, is_stopped):
        alarm, since = Alarm.of(ledger.organization_id, fault), max(since, fault.epoch) + 1
        if ledger.head is None or since > ledger.head.epoch:
            break
        ledger = stored.ledger(ledger.organization_id, USING, epoch=since)
    return alarm


def _fault(ledger: Ledger, since: int, is_stopped: Callable[[], bool]) -> LedgerFaulty | None:
    rows = _stoppable(ledger.rows, is_stopped)
    try:
        verify(ledger.organization_id, ledger.head, rows, ledger.openings, since=since)
    except LedgerFaulty as fault:
        return fault
    return None


def look_at_notes(organization_id: str, rounds: Rounds, alarms: Alarms) -> None:
    """Open a ledger's newest notes; one that is not what we signed of its root is put back, and an alarm meanwhile."""
    alarm = None
    for epoch, size, root, text in shown.notes(organization_id):
        signed = rounds.state.places.get((organization_id, epoch))
        if signed is None or size > signed.point.size:
            continue
        try:
            told = note.open_checkpoint(text, signed.origin, rounds.signers.trusted(signed.origin))
        except (NoteError, CheckpointInvalid):
            told = None
        if told is None or (told.size, told.root) != (size, root):
            what = f"the note of {size} entries is not what was signed"
            alarm = Watched(signed, signed.point).alarm(None, Kind.CHECKPOINT, what)
    if alarm:
        alarms.begin(Watch.NOTES, alarm, timezone.now())
    else:
        alarms.end(Watch.NOTES, organization_id)


def _place(watched: Watched) -> Place:
    return watched.signed.organization_id, watched.signed.epoch


def _ranges(page: Sequence[Leaf]) -> list[Range]:
    """Return the first and the last index of each log in a page."""
    ranges: dict[Place, Range] = {}
    for leaf in page:
        place = (leaf.organization_id, leaf.epoch)
        ranges[place] = Range(*place, ranges[place].first if place in ranges else leaf.i, leaf.i)
    return list(ranges.values())


def _compare_nodes(watched: Watched) -> None:
    """Note which stored nodes are not those of the leaves that went by; a closed epoch's stay as they are."""
    nodes, watched.peaks.nodes = watched.peaks.nodes, []
    if not watched.signed.kept and len(watched.repairs) < MOST_REPAIRED:
        watched.repairs += shown.wrong_nodes([(watched.signed, node) for node in nodes])


def _repair(watched: Watched) -> None:
    """Put nodes right: they are no authority, a wrong one only makes proofs that fail."""
    if watched.repairs:
        publishing.write_nodes(watched.repairs)
        logger.warning(
            "nodes repaired", organization=watched.signed.organization_id, nodes=len(watched.repairs)
        )


def _stoppable(rows: Iterator[Row], is_stopped: Callable[[], bool]) -> Iterator[Row]:
    for row in rows:
        if is_stopped():
            raise StopSweep
        yield row
