"""An older checkpoint that somebody kept: put into a bundle, so that whoever checks it compares the two."""

from audit import note
from audit.errors import CheckpointInvalid, ExportInvalid, NoteError, VerifierKeyInvalid
from audit.models import Checkpoint
from audit.signatures import verifier_keys

MOST_BYTES = 4096


def checked(organization_id: str, epoch: int | None, text: str) -> str:
    """Return a pasted checkpoint as it was signed; raises `ExportInvalid` for one that is not of this log.

    Whether it agrees with the log is not asked here: that it does not is what the bundle would be evidence of.
    """
    pasted = text.replace("\r\n", "\n").strip("\n") + "\n"
    if len(pasted.encode()) > MOST_BYTES:
        raise _invalid("This is longer than a checkpoint is.")
    newest = Checkpoint.objects.of(organization_id)
    current = (newest.filter(epoch=epoch) if epoch else newest).newest()
    if current is None:
        raise _invalid("The notary has not signed this log yet.")
    origin = current.note.partition("\n")[0]
    keys = [note.VerifierKey.parse(key) for key in verifier_keys.published(organization_id, current.epoch)]
    try:
        older = note.open_checkpoint(pasted, origin, keys)
    except (NoteError, CheckpointInvalid, VerifierKeyInvalid):
        raise _invalid("This is no checkpoint that the notary signed for this log.") from None
    if older.size > current.size:
        raise _invalid(
            f"This covers {older.size:,} entries, the newest checkpoint {current.size:,}: keep it, and tell us."
        )
    return pasted


def _invalid(detail: str) -> ExportInvalid:
    return ExportInvalid(detail, field="old_note")
