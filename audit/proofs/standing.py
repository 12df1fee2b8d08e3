"""How one entry stands under the notary's signatures: proven, waiting, or not what was signed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from audit.errors import LedgerUnproven, NotSigned
from audit.models import Checkpoint, Entry
from audit.proofs import proof, proving
from audit.tree import Step, climb


class StandingState(StrEnum):
    """What can be said of an entry."""

    PROVEN = "proven"  # a signed checkpoint covers it, and the proof of that was verified
    WAITING = "waiting"  # no checkpoint covers it yet
    UNPROVEN = "unproven"  # the entries do not lead to what was signed


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How an entry stands. `file`: its `.tlog-proof`, "" unless proven; `steps` lead from its leaf to `root`, 32 bytes.

    `signed_size` entries are under the checkpoint that covers it, 0 while none does. `trouble` says in words why it is
    unproven.
    """

    state: StandingState
    signed_size: int = 0
    signed_at: datetime | None = None
    root: bytes = b""
    file: str = ""
    steps: Sequence[Step] = ()
    trouble: str = ""


def standing(entry: Entry) -> Standing:
    """Prove an entry against the newest checkpoint of its epoch, or say why that can't be done.

    Run it in a transaction that works in the entry's organization. A few queries, as `proving.inclusion_proof`.
    """
    found = Checkpoint.objects.of(entry.organization_id).filter(epoch=entry.epoch).newest()
    if found is None or entry.index >= found.size:
        return Standing(state=StandingState.WAITING)
    try:
        file = proving.inclusion_proof(entry.organization_id, entry.place, found)
    except NotSigned:
        return Standing(state=StandingState.WAITING)
    except LedgerUnproven as error:
        return Standing(state=StandingState.UNPROVEN, trouble=str(error))
    hashes = proof.read(file).hashes
    return Standing(
        state=StandingState.PROVEN,
        signed_size=found.size,
        signed_at=found.signed_at,
        root=bytes(found.root),
        file=file,
        steps=list(climb(entry.index, found.size, entry.leaf_hash(), hashes)),
    )
