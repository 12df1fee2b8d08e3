"""A folder of checkpoints that were fetched before: what shows, later, that the log only grew since."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from keystead.ledger.errors import BundleMalformed, CheckpointInconsistent, NoteUntrusted
from keystead.ledger.note import Checkpoint, VerifierKey, open_checkpoint, parse_keys
from keystead.ledger.tree import verify_consistency

VKEYS: Final = "vkeys"
MAX_NOTE_BYTES: Final = 65_536
_NAME: Final = re.compile(r"([1-9][0-9]{0,8})-(0|[1-9][0-9]{0,15})\.checkpoint", re.ASCII)


@dataclass(frozen=True)
class Kept:
    """What a fetched checkpoint has come to.

    Args:
        checkpoint: the fetched one.
        before: the newest of the same log that was kept, which it continues; None for the first.
        is_pinned: whether keys were known before, given or kept.
    """

    checkpoint: Checkpoint
    before: Checkpoint | None
    is_pinned: bool


class Folder:
    """Checkpoints by epoch and size, and the verifier keys that are trusted; nothing in it is ever replaced by less."""

    def __init__(self, path: Path) -> None:
        """Use a folder; it is made when something is kept."""
        self.path = path

    def keys(self) -> tuple[VerifierKey, ...]:
        """Return the keys that were trusted before."""
        return parse_keys(self._read(VKEYS).decode("utf-8", "replace").split()) if self._has(VKEYS) else ()

    def notes(self, epoch: int) -> list[bytes]:
        """Return the kept notes of an epoch, the smallest first."""
        found = [_NAME.fullmatch(name) for name in (os.listdir(self.path) if self.path.is_dir() else [])]
        sizes = sorted(int(each[2]) for each in found if each and int(each[1]) == epoch)
        return [self._read(f"{epoch}-{size}.checkpoint") for size in sizes]

    def keep(
        self,
        note: bytes,
        announced: Iterable[str],
        consistency: Callable[[int, int], Sequence[bytes]],
        *,
        vkeys: Iterable[str] = (),
    ) -> Kept:
        """Check a fetched checkpoint against what is kept, and keep it.

        Args:
            note: the checkpoint.
            announced: the log's keys as the portal names them: believed the first time, and later where a key that
                was known signs beside them.
            consistency: asked for the proof between two sizes of the log.
            vkeys: keys to trust, in place of the portal's word.

        Raises:
            NoteUntrusted: no key that is trusted signed it.
            CheckpointInconsistent: the log is not a continuation of what was kept.
            BundleMalformed: something is no note, key or proof.
            ConfigurationError: the extra `crypto` is not installed.
            OSError: the folder can't be read or written.
        """
        known = (*parse_keys(vkeys), *self.keys())
        told = parse_keys(announced)
        checkpoint = _opened(note, known, told)
        before = self._newest(checkpoint.epoch, (*known, *told), checkpoint.origin)
        if before is not None and not _continues(before, checkpoint, consistency):
            raise CheckpointInconsistent(
                f"the checkpoint of {checkpoint.size} entries does not continue that of {before.size}: "
                f"both are signed, and kept as evidence: {self._keep_evidence(checkpoint, note)}"
            )
        # Signed by a trusted key too: then the portal's newer keys are the log's.
        own = [key for key in told if key.name == checkpoint.origin and key in _signing(note, told)]
        self._write(checkpoint, note, dict.fromkeys((*known, *own)))
        return Kept(checkpoint, before, bool(known))

    def _newest(self, epoch: int, keys: Sequence[VerifierKey], origin: str) -> Checkpoint | None:
        notes = self.notes(epoch)
        try:
            return open_checkpoint(notes[-1], keys, origin=origin) if notes else None
        except (NoteUntrusted, BundleMalformed) as error:
            raise type(error)(f"the newest checkpoint in {self.path}: {error}") from None

    def _write(self, checkpoint: Checkpoint, note: bytes, keys: Iterable[VerifierKey]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            _create(self.path / f"{checkpoint.epoch}-{checkpoint.size}.checkpoint", note)
        lines = "".join(f"{key}\n" for key in keys).encode()
        if not self._has(VKEYS) or self._read(VKEYS) != lines:
            new = self.path / f".{VKEYS}-new"
            new.unlink(missing_ok=True)
            _create(new, lines)
            new.replace(self.path / VKEYS)

    def _keep_evidence(self, checkpoint: Checkpoint, note: bytes) -> str:
        name = f"inconsistent-{checkpoint.epoch}-{checkpoint.size}-{checkpoint.root.hex()[:16]}.checkpoint"
        with suppress(FileExistsError):
            _create(self.path / name, note)
        return name

    def _has(self, name: str) -> bool:
        return (self.path / name).exists()

    def _read(self, name: str) -> bytes:
        with (self.path / name).open("rb") as file:
            content = file.read(MAX_NOTE_BYTES + 1)
        if len(content) > MAX_NOTE_BYTES:
            raise BundleMalformed(f"{name}: has more than {MAX_NOTE_BYTES} bytes")
        return content


def _opened(note: bytes, known: Sequence[VerifierKey], told: Sequence[VerifierKey]) -> Checkpoint:
    """Return what a note says, by a key that is known; where none is, by the portal's."""
    try:
        return open_checkpoint(note, known or told)
    except NoteUntrusted:
        # A log that goes on in a new epoch has another name, and its key is the same one under that.
        publics = {key.public for key in known}
        renamed = [key for key in told if key.public in publics]
        if not renamed:
            raise
        checkpoint = open_checkpoint(note, renamed)
        if not any(_is_successor(key.name, checkpoint.origin) for key in known):
            raise
        return checkpoint


def _is_successor(old: str, new: str) -> bool:
    return old.split("/")[:3] == new.split("/")[:3]


def _signing(note: bytes, keys: Sequence[VerifierKey]) -> tuple[VerifierKey, ...]:
    return open_checkpoint(note, keys).signers


def _continues(
    before: Checkpoint, now: Checkpoint, consistency: Callable[[int, int], Sequence[bytes]]
) -> bool:
    # Every log continues an empty one.
    if before.size == 0:
        return True
    if now.size < before.size:
        return False
    path = consistency(before.size, now.size) if before.size < now.size else ()
    return verify_consistency(before.size, now.size, before.root, now.root, path)


def _create(path: Path, content: bytes) -> None:
    """Write a new file, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(part, path)
    finally:
        part.unlink()
