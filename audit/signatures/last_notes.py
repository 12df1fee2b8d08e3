"""The last checkpoint that the notary signed of each ledger, from its own file: what a new epoch must carry."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from audit import note
from audit.models import Checkpoint
from audit.notary import state
from audit.signatures import key_files

# The newest keys: with more of them a log of the longest name has a note that no entry can hold.
MOST_SIGNERS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class LastNote:
    """How far a ledger was signed: `size` entries of `epoch`, and the note of that, by the folder's newest keys."""

    organization_id: str
    epoch: int
    size: int
    root: bytes
    note: str

    def contradicts(self, published: Checkpoint | None) -> bool:
        """Whether more than this, or something else, is published: then the file is not the notary's newest."""
        if published is None:
            return False
        theirs = (published.epoch, published.size)
        return theirs > (self.epoch, self.size) or (
            theirs == (self.epoch, self.size) and bytes(published.root) != self.root
        )


@contextmanager
def held(folder: Path) -> Iterator[dict[str, LastNote]]:
    """Yield the last note of each ledger, by organization, while no notary can sign anything further.

    It signs again what is signed already: the same sizes with the same roots. Raises `NotaryRefused` where a notary
    works with the folder or its file is no such, `KeyFilesError` without a key, and `OSError`.
    """
    with state.locked(folder):
        found = state.load(folder)
        keys = key_files.private_keys(folder)
        last: dict[str, LastNote] = {}
        for signed in sorted(found.logs.values() if found else (), key=lambda signed: signed.epoch):
            text = note.checkpoint_text(signed.origin, signed.point.size, signed.point.root)
            last[signed.organization_id] = LastNote(
                organization_id=signed.organization_id,
                epoch=signed.epoch,
                size=signed.point.size,
                root=signed.point.root,
                note=note.sign(text, signed.origin, *keys[-MOST_SIGNERS:]),
            )
        yield last
