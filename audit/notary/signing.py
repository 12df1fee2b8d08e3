"""The keys in the notary's folder, and how a checkpoint becomes a note (spec LEDGER, Bytes 6 and 7)."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from audit import note
from audit.errors import NotaryRefused
from audit.notary.state import Signed

FIRST = "private.pem"
FURTHER = re.compile(r"private-([1-9][0-9]*)\.pem")


@dataclass(frozen=True, slots=True)
class Signers:
    """The private keys that sign every checkpoint, oldest first. Secret."""

    keys: tuple[Ed25519PrivateKey, ...]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read `private.pem` and every `private-N.pem`, in order of N.

        Raises `NotaryRefused` where there is none, or one is no Ed25519 key without a password, and `OSError`.
        """
        further = {
            int(found[1]): path for path in folder.iterdir() if (found := FURTHER.fullmatch(path.name))
        }
        paths = [folder / FIRST, *(further[number] for number in sorted(further))]
        keys = tuple(_read(path) for path in paths if path.exists())
        if not keys:
            raise NotaryRefused(f"there is no {FIRST} in {folder}: run manage.py notary init")
        return cls(keys)

    def verifier_keys(self, origin: str) -> tuple[note.VerifierKey, ...]:
        """Return the public halves under a log's name, oldest first."""
        return tuple(note.VerifierKey.of(origin, key) for key in self.keys)

    def trusted(self, origin: str) -> tuple[note.VerifierKey, ...]:
        """Return the keys whose notes are ours: those that sign, and those that are published."""
        return self.verifier_keys(origin)

    def sign(self, signed: Signed) -> str:
        """Return the note of what the file says was signed: the same bytes each time."""
        text = note.checkpoint_text(signed.origin, signed.point.size, signed.point.root)
        return note.sign(text, signed.origin, *self.keys)


def _read(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise NotaryRefused(f"{path} is no Ed25519 key without a password")
    return key
