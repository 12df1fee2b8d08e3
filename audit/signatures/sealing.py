"""The seal of a ledger: how much of it is signed, when and by which keys, and what the notary found wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from audit import note
from audit.errors import NoteMalformed
from audit.models import Checkpoint, Entry
from audit.signatures import notary_pulse
from audit.signatures.notary_pulse import Alarm, NotaryPulse

# What was appended is signed within ten seconds; later than this something is wrong.
LATE_AFTER: Final = timedelta(seconds=30)


class SealState(StrEnum):
    """How a ledger stands, the worst first: what is said is the first that is true."""

    ALARM = "alarm"  # the notary found something wrong with it
    EMPTY = "empty"  # it has no entry yet
    SEALED = "sealed"  # every entry is under a signature
    MISSING = "missing"  # no notary runs, and entries wait for it
    BEHIND = "behind"  # one runs, and entries have waited for longer than 30 s
    PENDING = "pending"  # the newest entries are signed within seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """What is signed of a ledger's newest epoch.

    `size` entries are there, `signed_size` of them (0 to `size`; more where entries are gone) are under the newest
    checkpoint, whose `root` (32 bytes) and `note` are None and "" where there is none. `key_ids` are the 8 hex digits
    of the keys that the note names; a reader verifies them, this does not. `waiting_since` is the time of the oldest
    entry that is not signed.
    """

    epoch: int
    size: int
    signed_size: int
    root: bytes | None
    note: str
    signed_at: datetime | None
    published_at: datetime | None
    key_ids: Sequence[str]
    waiting_since: datetime | None
    pulse: NotaryPulse

    @property
    def alarms(self) -> Sequence[Alarm]:
        """What the notary found wrong with this ledger."""
        return self.pulse.alarms

    @property
    def faults(self) -> Sequence[Alarm]:
        """Those of them that say that the ledger was changed."""
        return self.pulse.faults

    @property
    def unsigned(self) -> int:
        """How many of the newest entries are under no signature yet."""
        return max(0, self.size - self.signed_size)

    @property
    def last_signed(self) -> int:
        """The index of the newest entry that is signed; -1 where none is."""
        return self.signed_size - 1

    @property
    def is_notary_missing(self) -> bool:
        """Whether no notary runs; what is signed stays signed."""
        return self.pulse.is_missing

    @property
    def state(self) -> SealState:
        """How it stands, in one word."""
        if self.alarms:
            return SealState.ALARM
        if not self.size:
            return SealState.EMPTY
        if not self.unsigned:
            return SealState.SEALED
        if self.is_notary_missing:
            return SealState.MISSING
        late = self.waiting_since and self.pulse.now - self.waiting_since > LATE_AFTER
        return SealState.BEHIND if late else SealState.PENDING


def seal(organization_id: str) -> Seal:
    """Return the seal of an organization's ledger. Run it in a transaction that works in that organization.

    Four queries, each by index. It says what was signed and published, and believes it: whether the entries fit is
    for the notary's alarms, the proofs and whoever verifies.
    """
    newest = Entry.objects.of(organization_id).newest_first().only("epoch", "index").first()
    epoch, size = (newest.epoch, newest.index + 1) if newest else (1, 0)
    checkpoint = Checkpoint.objects.of(organization_id).filter(epoch=epoch).newest()
    signed_size = checkpoint.size if checkpoint else 0
    return Seal(
        epoch=epoch,
        size=size,
        signed_size=signed_size,
        root=bytes(checkpoint.root) if checkpoint else None,
        note=checkpoint.note if checkpoint else "",
        signed_at=checkpoint.signed_at if checkpoint else None,
        published_at=checkpoint.published_at if checkpoint else None,
        key_ids=_key_ids(checkpoint.note) if checkpoint else [],
        waiting_since=_time_of(organization_id, epoch, signed_size) if signed_size < size else None,
        pulse=notary_pulse.of_organization(),
    )


def _key_ids(text: str) -> list[str]:
    try:
        return [key_id.hex() for _, key_id in note.signers_named(text)]
    except NoteMalformed:
        return []


def _time_of(organization_id: str, epoch: int, index: int) -> datetime | None:
    entry = Entry.objects.of(organization_id).filter(epoch=epoch, index=index).only("at").first()
    return entry.at if entry else None
