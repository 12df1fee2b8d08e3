"""The proof that one entry stands in a log (C2SP tlog-proof; spec LEDGER, Bytes 8)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from keystead.ledger import entry as rules
from keystead.ledger.entry import NotCanonical
from keystead.ledger.errors import ALTERED, BundleMalformed, LedgerTampered
from keystead.ledger.note import Checkpoint, decoded, open_checkpoint, parse_keys
from keystead.ledger.tree import HASH_BYTES, leaf_hash, root_from_path

MAX_PROOF_BYTES: Final = 65_536
_FIRST: Final = "c2sp.org/tlog-proof@v1"
_INDEX: Final = re.compile(r"index (0|[1-9][0-9]{0,15})", re.ASCII)
_MAX_PATH: Final = 63


@dataclass(frozen=True)
class Proof:
    """An entry that stands where the proof says.

    Args:
        checkpoint: of the log, signed.
        index: of the entry in it.
        members: of the entry.
    """

    checkpoint: Checkpoint
    index: int
    members: dict[str, object]


def verify_proof(proof: bytes, leaf: bytes, *, vkeys: Iterable[str]) -> Proof:
    """Check that an entry stands in the log of a signed checkpoint.

    Args:
        proof: the `.tlog-proof` file.
        leaf: the entry's bytes, without a newline.
        vkeys: verifier keys to trust.

    Raises:
        LedgerTampered: these bytes do not stand there.
        BundleMalformed: it is no proof.
        NoteUntrusted: its checkpoint has no signature of a trusted key.
        ConfigurationError: the extra `crypto` is not installed.
    """
    index, path, note = _split(proof)
    checkpoint = open_checkpoint(note, parse_keys(vkeys))
    try:
        members = rules.read(leaf)
    except NotCanonical as error:
        raise LedgerTampered(checkpoint.epoch, index, ALTERED, f"its bytes are no entry ({error})") from None
    if index >= checkpoint.size:
        raise BundleMalformed(f"the checkpoint counts {checkpoint.size} entries")
    if root_from_path(leaf_hash(leaf), index, checkpoint.size, path) != checkpoint.root:
        raise LedgerTampered(
            checkpoint.epoch, index, ALTERED, "the checkpoint has another root than this proof"
        )
    if (members["log"], members["i"]) != (checkpoint.origin, index):
        raise LedgerTampered(checkpoint.epoch, index, ALTERED, "it says that it stands elsewhere")
    return Proof(checkpoint, index, members)


def _split(proof: bytes) -> tuple[int, list[bytes], bytes]:
    if len(proof) > MAX_PROOF_BYTES:
        raise BundleMalformed(f"a proof has at most {MAX_PROOF_BYTES} bytes")
    head, blank, note = proof.partition(b"\n\n")
    try:
        first, index, *path = head.decode("ascii").split("\n")
    except ValueError:
        first, index, path = "", "", []
    found = _INDEX.fullmatch(index)
    hashes = [decoded(each) or b"" for each in path]
    if first != _FIRST or not blank or not found or len(path) > _MAX_PATH:
        raise BundleMalformed("not a proof of an entry")
    if any(len(each) != HASH_BYTES for each in hashes):
        raise BundleMalformed("a proof's path is not of hashes")
    return int(found[1]), hashes, note
