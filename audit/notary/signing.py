"""Who signs a log, and how a checkpoint becomes a note (spec LEDGER, Bytes 6, 7 and 13)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import ledger, note
from audit.errors import NotaryRefused
from audit.notary.state import Signed
from audit.signatures import key_files
from audit.signatures.key_files import KeyFilesError


@dataclass(frozen=True, slots=True)
class Signers:
    """The private keys in the notary's folder, oldest first. Secret."""

    keys: tuple[Ed25519PrivateKey, ...]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the folder's keys. Raises `NotaryRefused` where there is none, or one is unfit, and `OSError`."""
        try:
            return cls(tuple(key_files.private_keys(folder)))
        except KeyFilesError as error:
            raise NotaryRefused(str(error)) from error

    def public_keys(self) -> set[bytes]:
        """Return the public halves, 32 bytes each."""
        return {key.public_key().public_bytes_raw() for key in self.keys}

    def trusted(self, origin: str) -> list[note.VerifierKey]:
        """Return the keys whose notes are ours: those in the folder, and those that the deployment publishes."""
        return [note.VerifierKey(origin, public) for public in self.public_keys() | set(ledger.public_keys())]

    def missing(self, origin: str, announced: Sequence[str]) -> list[str]:
        """Return which of a log's verifier keys are of no key in the folder."""
        held = {note.VerifierKey.of(origin, key).format() for key in self.keys}
        return [vkey for vkey in announced if vkey not in held]

    def sign(self, signed: Signed, announced: Sequence[str]) -> str | None:
        """Return the note of what the file says was signed, the same bytes each time.

        `announced` are the verifier keys that sign it as the log's own entries have it. None where we hold none of
        them: then the log has another signer than this notary, or its key is lost.
        """
        held = {note.VerifierKey.of(signed.origin, key).format(): key for key in self.keys}
        keys = [held[vkey] for vkey in announced if vkey in held]
        text = note.checkpoint_text(signed.origin, signed.point.size, signed.point.root)
        return note.sign(text, signed.origin, *keys) if keys else None
