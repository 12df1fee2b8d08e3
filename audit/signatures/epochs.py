"""How a ledger goes on in a new epoch: what the entry that opens it must say (spec LEDGER, "The notary"). Pure."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from audit import entry as entry_rules
from audit import note
from audit.entry import ParsedEntry
from audit.errors import CheckpointInvalid, EntryInvalid, NoteError, ReopeningRefused, VerifierKeyInvalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Where an epoch ended: `size` entries, the leaf hash of the last (which vouches for all), and its time."""

    epoch: int
    size: int
    last: bytes
    at: datetime | None = None

    def data(self) -> dict[str, Any]:
        """Return it as `data.left` of the entry that goes on from there."""
        return {"epoch": self.epoch, "size": self.size, "last": base64.b64encode(self.last).decode()}


def counted(entry: ParsedEntry, epoch: int) -> int | None:
    """Return how many entries of `epoch` there were when `entry` opened the next; None where it speaks of another."""
    left = entry.data.get("left")
    size = left.get("size") if isinstance(left, dict) and left.get("epoch") == epoch else None
    return size if type(size) is int else None


def open_carried(
    checkpoint: object, log: str, vkey: str, announced: Mapping[int, Sequence[str]]
) -> note.Checkpoint:
    """Return the checkpoint that opens the log named `log`, of an earlier epoch of the same ledger.

    It must be signed by a key that its own epoch announced (`announced`: verifier keys by epoch, of what is left of
    it), or by the key that the new log opens with, `vkey`. Raises `ReopeningRefused` for any other, and for one of no
    entries.
    """
    try:
        text = checkpoint if isinstance(checkpoint, str) else ""
        claimed = note.parse_checkpoint(note.text_of(text))
        epoch = entry_rules.epoch_of(claimed.origin)
        if not 0 < epoch < entry_rules.epoch_of(log) or _ledger_of(claimed.origin) != _ledger_of(log):
            raise ReopeningRefused("it is of no earlier epoch of this ledger")
        keys = [note.VerifierKey.parse(key) for key in announced.get(epoch, [])]
        newest = note.VerifierKey(claimed.origin, note.VerifierKey.parse(vkey).public)
        found = note.open_checkpoint(text, claimed.origin, dict.fromkeys([*keys, newest]))
    except (NoteError, CheckpointInvalid, EntryInvalid, VerifierKeyInvalid) as error:
        raise ReopeningRefused(str(error)) from error
    if not found.size:
        raise ReopeningRefused("it is of an empty ledger")
    return found


def _ledger_of(log: str) -> tuple[str, str]:
    host, _, organization_id, *_ = log.split("/")
    return host, organization_id
