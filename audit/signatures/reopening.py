"""Going on in a new epoch, where a ledger can't go on as it was signed (spec LEDGER, "The notary").

After a restored backup what was signed is more than what is there, and the notary signs nothing further. The first
entry of the new epoch carries the last checkpoint of the old, and says where the old one was left: so it tells
everybody what is gone, and keeps what is left from being cut further.
"""

from dataclasses import dataclass

from audit import entry as entry_rules
from audit import ledger, note, tenancy
from audit.actors import Actor
from audit.acts import Act
from audit.errors import EntryInvalid, NoteMalformed, ReopeningRefused
from audit.ledger import Draft, Place
from audit.signatures import epochs, verifier_keys
from audit.signatures.epochs import Left


@dataclass(frozen=True, slots=True, kw_only=True)
class Reopened:
    """What was done: `log` is the new log's name; `left` entries were there of the old epoch, `signed` were signed."""

    log: str
    left: int
    signed: int


def reopen_ledger(organization_id: str, checkpoint: str, *, actor: Actor, reason: str) -> Reopened:
    """Open a new epoch of an organization's ledger with the deployment's newest key.

    `checkpoint` is the last note that was signed of the ledger, of whichever epoch: the notary goes on from no other.
    `reason` is sealed. Appends `ledger.reopened {vkey, left, checkpoint}` as the new epoch's first entry.

    Raises `ReopeningRefused` where the note is not a checkpoint of this ledger, signed by a key of the deployment or
    one that the ledger announced, and `LedgerUnavailable`.
    """
    with tenancy.within(organization_id):
        place = ledger.lock(organization_id)
        log = _next_log(organization_id, place, checkpoint)
        vkey, before = ledger.verifier_key(log), entry_rules.epoch_of(log)
        announced = {epoch: verifier_keys.published(organization_id, epoch) for epoch in range(1, before)}
        signed = epochs.open_carried(checkpoint, log, vkey, announced)
        left = Left(epoch=place.epoch, size=place.index, last=place.prev)
        data = {"target": log, "vkey": vkey, "left": left.data(), "checkpoint": checkpoint}
        openings = actor.sealed() | {"note": reason}
        draft = Draft(act=Act.LEDGER_REOPENED, actor=actor.id, data=data, openings=openings)
        ledger.reopen(organization_id, draft, log=log, at=place.at)
    return Reopened(log=log, left=place.index, signed=signed.size)


def _next_log(organization_id: str, place: Place, checkpoint: str) -> str:
    """Return the name of the log after the ledger's own and after the one that the note speaks of."""
    try:
        signed = entry_rules.epoch_of(note.text_of(checkpoint).partition("\n")[0])
    except (NoteMalformed, EntryInvalid) as error:
        raise ReopeningRefused(f"that is no checkpoint: {error}") from error
    return entry_rules.origin(place.log.partition("/")[0], organization_id, 1 + max(place.epoch, signed))
