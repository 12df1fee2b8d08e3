"""What can be wrong with a ledger that is checked offline; each has the exit code of LEDGER 14."""

from __future__ import annotations

from typing import ClassVar, Final

from keystead.errors import KeysteadError

# What was done to a ledger, in the words of the portal's own verifier.
ALTERED: Final = "altered"
DROPPED: Final = "dropped"
SWAPPED: Final = "swapped"
INSERTED: Final = "inserted"


class LedgerError(KeysteadError):
    """A ledger was not found to be good. No message holds personal data."""

    exit_code: ClassVar[int] = 2
    name: ClassVar[str] = "malformed"


class BundleMalformed(LedgerError):
    """What was given is no bundle, note, proof or verifier key."""


class NoteUntrusted(LedgerError):
    """No signature that can be trusted: none by a known key, or one that claims to be and is not."""

    exit_code = 3
    name = "untrusted"


class CheckpointInconsistent(LedgerError):
    """The ledger is not a continuation of what the older checkpoint speaks of."""

    exit_code = 4
    name = "inconsistent"


class LedgerTampered(LedgerError):
    """The ledger is not what was once written; this is the first faulty place.

    Args:
        epoch: of the log.
        index: of the entry, or where one should be.
        fault: altered, dropped, swapped or inserted.
        what: in words, what does not fit.
    """

    exit_code = 1
    name = "tampered"

    def __init__(self, epoch: int, index: int, fault: str, what: str) -> None:
        super().__init__(f"epoch {epoch}, entry {index}: {fault}: {what}")
        self.epoch = epoch
        self.index = index
        self.fault = fault
        self.what = what
