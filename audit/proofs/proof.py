"""Proof files: that one entry is in a signed checkpoint, as text of a few hundred bytes (LEDGER.md Bytes 8).

The format is C2SP tlog-proof. As with notes there is one spelling of each proof, and what `write` makes `read` accepts.
"""

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from audit import note as notes
from audit import tree
from audit.entry import MAX_INTEGER
from audit.errors import ProofMalformed
from audit.note import Checkpoint, VerifierKey

HEADER: Final = "c2sp.org/tlog-proof@v1"
SUFFIX: Final = ".tlog-proof"
# No tree of 2^53 leaves has a longer path.
MAX_HASHES: Final = 53
INDEX: Final = re.compile(r"index (0|[1-9][0-9]{0,15})")


@dataclass(frozen=True, slots=True)
class Proof:
    """What a proof file says: the entry's index, 32-byte hashes from the leaf up, and the checkpoint's signed note."""

    index: int
    hashes: tuple[bytes, ...]
    note: str


def write(index: int, hashes: Sequence[bytes], note: str) -> str:
    """Return the proof file of entry `index`: its path of 32-byte hashes, from the leaf up, and a signed note.

    Raises ProofMalformed for what `read` would refuse. Nothing is verified here.
    """
    lines = [HEADER, f"index {index}", *[base64.b64encode(each).decode() for each in hashes]]
    text = "\n".join([*lines, "", note])
    read(text)
    return text


def read(text: str) -> Proof:
    """Return what a proof file says, of which there is one spelling. Raises ProofMalformed; verifies nothing."""
    head, separator, note = text.partition("\n\n")
    lines = head.split("\n")
    found = INDEX.fullmatch(lines[1]) if separator and lines[0] == HEADER and len(lines) > 1 else None
    if found is None or int(found[1]) > MAX_INTEGER:
        raise ProofMalformed("not a proof file with the index of an entry")
    if len(lines) - 2 > MAX_HASHES:
        raise ProofMalformed(f"a proof has at most {MAX_HASHES} hashes")
    if not note:
        raise ProofMalformed("no note follows the proof")
    return Proof(int(found[1]), tuple(_hash(line) for line in lines[2:]), note)


def open_proof(text: str, leaf: bytes, origin: str, keys: Iterable[VerifierKey]) -> Checkpoint:
    """Return the signed checkpoint that holds the leaf bytes L, at the index that the proof file names.

    `keys` are those the reader trusts; one of them is the log's own, and the log is named `origin`.

    Raises ProofMalformed for what is no proof file, what `note.open_checkpoint` raises, and ProofInvalid where the
    proof does not lead from this leaf to the signed root. The index is the proof's: compare it with the entry's.
    """
    proof = read(text)
    checkpoint = notes.open_checkpoint(proof.note, origin, keys)
    leaf_hash = tree.leaf_hash(leaf)
    tree.verify_inclusion(proof.index, checkpoint.size, leaf_hash, proof.hashes, checkpoint.root)
    return checkpoint


def _hash(line: str) -> bytes:
    try:
        octets = base64.b64decode(line, validate=True)
    except ValueError:
        octets = b""
    # Encoding again refuses what decoders let pass: spare bits in the last character.
    if len(octets) != tree.HASH_BYTES or base64.b64encode(octets).decode() != line:
        raise ProofMalformed("a line is not base64 of a hash")
    return octets
