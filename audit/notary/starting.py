"""What must be right before the notary signs: its file, its keys, and that it is the only one."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from django.utils import timezone

from audit import entry as entry_rules
from audit import ledger, note, stored
from audit.errors import CheckpointInvalid, EntryInvalid, NotaryRefused, NoteError
from audit.notary import publishing, reading, state
from audit.notary.peaks import Peaks
from audit.notary.signing import Signers
from audit.notary.state import Signed, State
from audit.tree import Point

# Any number that nobody else takes: the database knows only numbers for such locks.
ADVISORY: Final = 5_404_611_870_921_653_113
LOCK_SECONDS: Final = 10
LOCK = "SELECT pg_catalog.pg_try_advisory_lock(%s)"
# Each epoch of each ledger, without reading every checkpoint.
NEWEST = """
    SELECT h.organization_id, e.epoch::int, c.size, c.root, c.note
    FROM audit_head h, generate_series(1, h.epoch) e (epoch),
        LATERAL (SELECT * FROM audit_checkpoint c WHERE c.organization_id = h.organization_id AND c.epoch = e.epoch
            ORDER BY size DESC LIMIT %s) c
    ORDER BY h.organization_id, e.epoch, c.size DESC
"""
ANY = "SELECT EXISTS (SELECT FROM audit_checkpoint) OR EXISTS (SELECT FROM audit_notary)"
# How far back adoption looks for a checkpoint that is really ours.
LOOKED_AT: Final = 100
logger = structlog.get_logger("keystead.notary")


@dataclass(frozen=True, slots=True)
class Adopted:
    """A log whose place was taken from the newest checkpoint that is ours; `fits` tells whether its entries do."""

    signed: Signed
    fits: bool


def signers(folder: Path) -> Signers:
    """Read the signing keys. Raises `NotaryRefused` where the published key is none of theirs, and `OSError`."""
    found = Signers.read(folder)
    if ledger.public_key() not in found.public_keys():
        raise NotaryRefused(f"the newest LEDGER_PUBLIC_KEY is not the public half of a key in {folder}")
    return found


def find(folder: Path, keys: Signers) -> State:
    """Return what the file holds, written to the disk once more; where nothing was ever signed, a new one.

    What is read may have been written by a process that failed before it was on the disk. Raises `NotaryRefused`
    where the file is gone or older than what was published, and `OSError`.
    """
    found = state.load(folder)
    if found is None and reading.query(ANY)[0][0]:
        raise NotaryRefused(
            f"{folder / state.NAME} is gone, and this database's ledgers were signed before. Put the file back from "
            "where it is, or run manage.py notary adopt, which begins from the published checkpoints"
        )
    found = found or State.new()
    for signed in _published(keys, 1):
        known = found.logs.get(signed.origin)
        if known is None or known.point.size < signed.point.size:
            raise NotaryRefused(
                f"{folder / state.NAME} is older than what was published ({signed.origin}, {signed.point.size} "
                "entries). Put the newer file back, or run manage.py notary adopt"
            )
    state.save(folder, found)
    return found


def adopt(folder: Path, keys: Signers) -> list[Adopted]:
    """Write a file that begins from the newest checkpoints of ours in the table, where those are beyond the file's.

    Raises `NotaryRefused` where another notary beat less than 30 s ago, or a published root contradicts the file's.
    """
    found = state.load(folder) or State.new()
    changed = []
    newest: dict[str, Signed] = {}
    for signed in _published(keys, LOOKED_AT):
        newest.setdefault(signed.origin, signed)
    for signed in newest.values():
        known = found.logs.get(signed.origin)
        if known and known.point.size == signed.point.size and known.point != signed.point:
            raise NotaryRefused(f"two roots were signed for {signed.point.size} entries of {signed.origin}")
        if known is None or known.point.size < signed.point.size:
            changed.append(_kept(signed))
    publishing.begin(found.instance, timezone.now(), take_over=True)
    state.save(folder, found.after(*(each.signed for each in changed)))
    return changed


def only_one() -> None:
    """Take the database's lock for the one notary, which lasts as long as the connection.

    Raises `NotaryRefused` where another holds it for ten seconds: the server may still be clearing one away.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    while not reading.query(LOCK, [ADVISORY])[0][0]:
        if time.monotonic() > deadline:
            raise NotaryRefused("another notary is connected to this database")
        time.sleep(0.1)


def _published(keys: Signers, at_most: int) -> Sequence[Signed]:
    """Return the newest checkpoints of each log whose notes are ours, the newest first."""
    found = []
    for organization_id, epoch, size, root, text in reading.query(NEWEST, [at_most]):
        origin = _origin(organization_id, epoch, text)
        try:
            told = note.open_checkpoint(text, origin, keys.trusted(origin))
        except (NoteError, CheckpointInvalid):
            continue
        if (told.size, told.root) == (size, root):
            found.append(state.signed(origin, Point(size, root)))
    return found


def _origin(organization_id: str, epoch: int, text: str) -> str:
    host = text.partition("/")[0]
    try:
        return entry_rules.origin(host, organization_id, epoch)
    except EntryInvalid:
        return ""


def _kept(signed: Signed) -> Adopted:
    """Compare a checkpoint with the entries that stand there; those of a closed epoch are kept as they are."""
    peaks, at = Peaks(), None
    with stored.snapshot(reading.USING):
        [(head_epoch,)] = reading.query(
            "SELECT epoch FROM audit_head WHERE organization_id = %s", [signed.organization_id]
        )
        for _, leaf in reading.leaves(signed.organization_id, signed.epoch, 0, entry_rules.MAX_INTEGER):
            peaks.append(entry_rules.leaf_hash(leaf))
            if peaks.size == signed.point.size:
                at = peaks.root()
    if head_epoch > signed.epoch:
        signed = state.signed(signed.origin, signed.point, Point(peaks.size, peaks.root()))
    return Adopted(signed, at == signed.point.root)
