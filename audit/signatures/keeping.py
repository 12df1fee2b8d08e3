"""What a ledger must say of itself, and nobody does: its signing keys, and each day how much of it is signed.

Each entry is decided under the ledger's lock by what the ledger's own entries say: two workers at once, or one that is
killed, append it once (spec LEDGER, Bytes 12 and 13).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection

from audit import ledger, note, tenancy
from audit.actors import WORKER
from audit.acts import Act
from audit.errors import NoteError, VerifierKeyInvalid
from audit.models import Checkpoint, Entry
from audit.signatures import key_life, verifier_keys

# Each ledger is found by one step along the index, however long it is.
LEDGERS: Final = """
    WITH RECURSIVE ledgers AS (
        (SELECT organization_id FROM audit_entry ORDER BY organization_id LIMIT 1)
        UNION ALL
        SELECT (SELECT e.organization_id FROM audit_entry e WHERE e.organization_id > l.organization_id
                ORDER BY e.organization_id LIMIT 1)
        FROM ledgers l WHERE l.organization_id IS NOT NULL
    )
    SELECT organization_id FROM ledgers WHERE organization_id IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Saying:
    """An entry that is due."""

    act: Act
    data: Mapping[str, Any]


def organizations() -> list[str]:
    """Return the id of every organization that has a ledger, in order."""
    with tenancy.everywhere(tenancy.Reason.WORKER), connection.cursor() as cursor:
        cursor.execute(LEDGERS)
        return [row[0] for row in cursor.fetchall()]


def keep_keys(organization_id: str, now: datetime) -> list[Act]:
    """Announce the newest signing key in a ledger that does not know it, and retire what signed beside it for 90 days.

    Appends `ledger.key_added {vkey}` or `ledger.key_retired {vkey}`; returns the acts. Nothing where the settings are
    older than the ledger, and no key is retired before a checkpoint bears the newest one's signature: else a notary
    that never got the new key would have none left.
    """
    return _say(organization_id, lambda: _about_keys(organization_id, now))


def record_checkpoint(organization_id: str, now: datetime) -> list[Act]:
    """Put the newest checkpoint into the ledger, once a UTC day, where something was signed since the last time.

    Appends `ledger.checkpoint {size, checkpoint}`, `checkpoint` being the signed note: every webhook's subscriber then
    holds evidence.
    """
    return _say(organization_id, lambda: _about_checkpoint(organization_id, now))


def _say(organization_id: str, due: Callable[[], Sequence[Saying]]) -> list[Act]:
    """Append what is due: found without a lock, as nearly always nothing is, and once more under it."""
    with tenancy.within(organization_id):
        if not due():
            return []
        log = ledger.lock(organization_id).log
        sayings = due()
        with ledger.recording(organization_id, WORKER) as entry:
            for saying in sayings:
                entry(saying.act, target=log, data=saying.data)
        return [saying.act for saying in sayings]


def _about_keys(organization_id: str, now: datetime) -> Sequence[Saying]:
    newest = _newest(organization_id)
    if newest is None:
        return []
    log, events = newest.parsed().log, verifier_keys.events(organization_id, newest.epoch)
    known, ours = key_life.published(events), ledger.verifier_keys(log)
    if not known or known[-1] not in ours:
        return []
    if ours[-1] not in known:
        return [Saying(Act.LEDGER_KEY_ADDED, {"vkey": ours[-1]})]
    late = key_life.overdue(events, now)
    if late and not _is_signed_by(organization_id, newest.epoch, known[-1]):
        return []
    return [Saying(Act.LEDGER_KEY_RETIRED, {"vkey": vkey}) for vkey in late]


def _about_checkpoint(organization_id: str, now: datetime) -> Sequence[Saying]:
    newest = Checkpoint.objects.of(organization_id).newest()
    if newest is None:
        return []
    last = Entry.objects.of(organization_id).filter(act=Act.LEDGER_CHECKPOINT).newest_first().first()
    # That the last such entry itself was signed is no news.
    if last and (last.at.date() >= now.date() or (newest.epoch, newest.size) <= (last.epoch, last.index + 1)):
        return []
    return [Saying(Act.LEDGER_CHECKPOINT, {"size": newest.size, "checkpoint": newest.note})]


def _newest(organization_id: str) -> Entry | None:
    return Entry.objects.of(organization_id).newest_first().first()


def _is_signed_by(organization_id: str, epoch: int, vkey: str) -> bool:
    checkpoint = Checkpoint.objects.of(organization_id).filter(epoch=epoch).newest()
    try:
        return checkpoint is not None and bool(
            note.open_note(checkpoint.note, [note.VerifierKey.parse(vkey)])
        )
    except (NoteError, VerifierKeyInvalid):
        return False
