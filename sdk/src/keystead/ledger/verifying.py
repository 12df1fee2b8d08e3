"""An offline bundle, checked from its note to its last opening (spec LEDGER, Bytes 14)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from keystead.ledger import bundle as parts
from keystead.ledger.bundle import Bundle, Lines
from keystead.ledger.chain import Checked, Fault, Opening, Stretch, before_altered, orphan, read_opening
from keystead.ledger.erased import Erased
from keystead.ledger.errors import (
    ALTERED,
    DROPPED,
    INSERTED,
    BundleMalformed,
    CheckpointInconsistent,
    LedgerTampered,
    NoteUntrusted,
)
from keystead.ledger.note import Checkpoint, VerifierKey, open_checkpoint, parse_keys
from keystead.ledger.tree import HASH_BYTES, Tree, leaf_hash
from keystead.ledger.workers import MAX_WORKERS, check_all, cores

# Below this starting other processes takes longer than the work.
ALONE_BYTES: Final = 8 * 1024 * 1024
# Far more openings than an entry of 16 KiB can have.
MAX_OPENINGS_BYTES: Final = 8 * 1024 * 1024
MAX_VKEYS: Final = 100


@dataclass(frozen=True)
class Verified:
    """A ledger in which everything fits.

    Args:
        checkpoint: what was signed: the log, its size and its root.
        is_pinned: whether the keys were given, and not the bundle's own.
        older: the older checkpoints that it continues.
        opened: the number of openings, each of which is what was sealed.
        erased: the number of openings that are gone as the ledger itself says.
    """

    checkpoint: Checkpoint
    is_pinned: bool
    older: tuple[Checkpoint, ...]
    opened: int
    erased: int


def verify_bundle(
    path: Path,
    *,
    vkeys: Iterable[str] = (),
    older: Iterable[bytes] = (),
    processes: int | None = None,
    progress: Callable[[int], object] = lambda _count: None,
) -> Verified:
    """Check a bundle and return what it holds.

    Args:
        path: of the bundle; only read.
        vkeys: verifier keys to trust; the bundle's own unless given, which shows that it was not damaged, and not who
            made it.
        older: notes of older checkpoints of the same log, beside the one in the bundle.
        processes: to check with; as many as there are processors unless given.
        progress: told the number of entries so far, now and then.

    Raises:
        LedgerTampered: the first place that does not fit.
        BundleMalformed: it is no bundle; or a key or note is none.
        NoteUntrusted: the checkpoint, or an older one, has no signature of a trusted key.
        CheckpointInconsistent: it does not continue an older checkpoint.
        ConfigurationError: the extra `crypto` is not installed.
        OSError: the file can't be read.
    """
    given = parse_keys(vkeys)
    with Bundle(path) as bundle:
        own = _keys(bundle)
        keys = given or own
        checkpoint = open_checkpoint(bundle.text(parts.CHECKPOINT) or b"", keys)
        notes = [note for note in (bundle.text(parts.OLD_CHECKPOINT), *older) if note is not None]
        olds = tuple(_older(note, keys, checkpoint.origin) for note in notes)
        if processes is None:
            processes = 1 if bundle.length() < ALONE_BYTES else min(cores(), MAX_WORKERS)
        source, log = _Source(bundle, checkpoint), _Log(checkpoint, olds)
        with closing(check_all(source.stretches(), processes)) as found:
            for checked in found:
                log.add(checked)
                progress(log.tree.size)
        log.end(source.extra)
        log.check_openings(source.left())
        return Verified(checkpoint, bool(given), olds, log.opened, log.erased.count())


class _Log:
    """The tree over the entries so far, and what only the whole log can tell."""

    def __init__(self, checkpoint: Checkpoint, olds: Sequence[Checkpoint]) -> None:
        self.checkpoint = checkpoint
        self.tree = Tree()
        # Without the last leaf: it may turn out that this one was altered.
        self.shorter = Tree()
        self.olds = sorted(olds, key=lambda old: old.size)
        self.roots: dict[int, bytes] = {0: self.tree.root()}
        self.opened = 0
        self.opening_fault: Fault | None = None
        self.erased = Erased()

    def add(self, checked: Checked) -> None:
        """Take in the next stretch."""
        self._grow(checked.hashes)
        if checked.malformed:
            raise BundleMalformed(checked.malformed)
        if checked.fault:
            raise self._fault(checked.fault, checked.doubt)
        self.opened += checked.opened
        self.opening_fault = self.opening_fault or checked.opening_fault
        self.erased.add(checked.missing, checked.erasures)

    def _grow(self, hashes: bytes) -> None:
        sizes = [old.size for old in self.olds if old.size > self.tree.size]
        for place in range(0, len(hashes), HASH_BYTES):
            if place + HASH_BYTES == len(hashes):
                self.shorter = self.tree.copy()
            self.tree.append(hashes[place : place + HASH_BYTES])
            if sizes and self.tree.size in sizes:
                self.roots[self.tree.size] = self.tree.root()

    def _fault(self, found: Fault, doubt: tuple[bytes, bytes] | None) -> LedgerTampered:
        if doubt is not None and self._is_signed(*doubt):
            found = before_altered(found[0])
        return LedgerTampered(self.checkpoint.epoch, *found)

    def _is_signed(self, *leaves: bytes) -> bool:
        """Tell whether these were signed in the place of the last leaf: then it is that one which is another now."""
        tree = self.shorter.copy()
        for leaf in leaves:
            tree.append(leaf)
        return (tree.size, tree.root()) == (self.checkpoint.size, self.checkpoint.root)

    def end(self, extra: bytes | None) -> None:
        """Compare the whole with what was signed, now and before; `extra` is a line more than that."""
        epoch, size = self.checkpoint.epoch, self.tree.size
        if extra is not None:
            # The true last entry, moved down by one that looks like it, tells where that stands.
            index = size - 1 if self._is_signed(leaf_hash(extra)) else self.checkpoint.size
            what = f"the checkpoint ends epoch {epoch} at {self.checkpoint.size} entries"
            raise LedgerTampered(epoch, index, INSERTED, what)
        if size < self.checkpoint.size:
            what = f"the checkpoint counts {self.checkpoint.size} entries, there are {size}"
            raise LedgerTampered(epoch, size, DROPPED, what)
        if self.tree.root() != self.checkpoint.root:
            what = "the checkpoint has another root than these entries"
            raise LedgerTampered(epoch, max(0, size - 1), ALTERED, what)
        for old in self.olds:
            if old.size > size:
                raise CheckpointInconsistent(
                    f"the older checkpoint is of {old.size} entries, there are {size}"
                )
            if self.roots[old.size] != old.root:
                raise CheckpointInconsistent(f"the older checkpoint has another root at {old.size} entries")

    def check_openings(self, left: Opening | None) -> None:
        """Refuse the first opening that does not fit, is of nothing, or is missing and no erasure names it."""
        fault = self.opening_fault or (orphan(left) if left else None)
        missing = self.erased.first_missing()
        if missing and (fault is None or missing[0] < fault[0]):
            fault = missing[0], DROPPED, f"the opening of {missing[1]} is missing"
        if fault:
            raise LedgerTampered(self.checkpoint.epoch, *fault)


class _Openings:
    """The lines of the openings, handed out with the entries that they belong to."""

    def __init__(self, lines: Lines) -> None:
        self._source = lines
        self._lines: list[bytes] = []
        self._size = 0
        self._is_ended = False
        self.count = 0

    def holds(self, bound: int) -> bool:
        """Read until all openings of entries below `bound` are here; False where they are too many."""
        while not self._is_ended and (not self._lines or self._index(len(self._lines) - 1) < bound):
            if self._size > MAX_OPENINGS_BYTES:
                return False
            block = self._source.block()
            self._lines += block
            self._size += sum(map(len, block))
            self._is_ended = not block
        return True

    def take(self, bound: int) -> list[bytes]:
        """Return the lines of the entries below `bound`."""
        low, high = 0, len(self._lines)
        while low < high:
            middle = (low + high) // 2
            if self._index(middle) < bound:
                low = middle + 1
            else:
                high = middle
        taken, self._lines = self._lines[:low], self._lines[low:]
        self._size -= sum(map(len, taken))
        self.count += low
        return taken

    def left(self) -> Opening | None:
        """Return the first that is left, None where there is none."""
        if not self._lines:
            self._lines = self._source.block()
        return self._opening(0) if self._lines else None

    def _index(self, place: int) -> int:
        return self._opening(place).i

    def _opening(self, place: int) -> Opening:
        return read_opening(self._lines[place], self.count + place + 1)


class _Source:
    """The log in stretches, each with the openings of its entries."""

    def __init__(self, bundle: Bundle, checkpoint: Checkpoint) -> None:
        self._bundle = bundle
        self._checkpoint = checkpoint
        self._openings = _Openings(bundle.openings())
        # The first line behind the last entry that was signed.
        self.extra: bytes | None = None

    def stretches(self) -> Iterator[Stretch]:
        """Yield them all, as far as the checkpoint goes."""
        log, epoch = self._checkpoint.origin, self._checkpoint.epoch
        before: bytes | None = None
        start = 0
        for lines, after in self._blocks():
            left = lines
            while left:
                openings = self._openings.count
                count, taken = self._with_openings(start, len(left))
                stretch, left = left[:count], left[count:]
                following = left[0] if left else after
                yield Stretch(log, epoch, start, before, stretch, following, taken, openings)
                start, before = start + count, stretch[-1]

    def left(self) -> Opening | None:
        """Return the first opening that is left when the entries have ended."""
        return self._openings.left()

    def _with_openings(self, start: int, count: int) -> tuple[int, list[bytes]]:
        """Return how many of the next entries fit into the memory with their openings, and those."""
        while not self._openings.holds(start + count):
            if count == 1:
                raise BundleMalformed("sealed.jsonl: has more openings than an entry can have")
            count //= 2
        return count, self._openings.take(start + count)

    def _blocks(self) -> Iterator[tuple[list[bytes], bytes | None]]:
        """Yield blocks of lines up to the checkpoint's size, each with the line that follows it."""
        source, left = self._bundle.entries(), self._checkpoint.size
        lines = source.block()
        while lines:
            if len(lines) > left:
                self.extra = lines[left]
                if left:
                    yield lines[:left], self.extra
                return
            left -= len(lines)
            try:
                following = source.block()
            except BundleMalformed:
                # What was read is looked at first; an empty line vouches for nothing.
                yield lines, b""
                raise
            yield lines, following[0] if following else None
            lines = following


def _older(note: bytes, keys: Sequence[VerifierKey], origin: str) -> Checkpoint:
    try:
        return open_checkpoint(note, keys, origin=origin)
    except (BundleMalformed, NoteUntrusted, CheckpointInconsistent) as error:
        raise type(error)(f"the older checkpoint: {error}") from None


def _keys(bundle: Bundle) -> tuple[VerifierKey, ...]:
    """Return the bundle's own keys."""
    content = bundle.text(parts.VKEYS) or b""
    try:
        lines = content.decode().split("\n")
    except UnicodeDecodeError:
        raise BundleMalformed("vkeys: not text in UTF-8") from None
    if lines.pop() != "" or not 1 <= len(lines) <= MAX_VKEYS:
        raise BundleMalformed(f"vkeys: not 1 to {MAX_VKEYS} lines")
    return parse_keys(lines)
