"""Checking a portal's ledger without the portal (spec LEDGER): its bundle, and the proof of one entry.

Nothing here trusts the server's code or asks it anything. Needs the extra `keystead[crypto]` for the signatures.
"""

from keystead.ledger.errors import (
    BundleMalformed,
    CheckpointInconsistent,
    LedgerError,
    LedgerTampered,
    NoteUntrusted,
)
from keystead.ledger.note import Checkpoint, VerifierKey, open_checkpoint
from keystead.ledger.proof import Proof, verify_proof
from keystead.ledger.verifying import Verified, verify_bundle

__all__ = [
    "BundleMalformed",
    "Checkpoint",
    "CheckpointInconsistent",
    "LedgerError",
    "LedgerTampered",
    "NoteUntrusted",
    "Proof",
    "Verified",
    "VerifierKey",
    "open_checkpoint",
    "verify_bundle",
    "verify_proof",
]
