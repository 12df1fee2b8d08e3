"""The Merkle tree of a log (RFC 6962 §2.1, spec LEDGER, Bytes 4 and 8)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    """Return H(0x00‖L), 32 bytes."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return H(0x01‖left‖right), 32 bytes."""
    return sha256(b"\x01" + left + right).digest()


class Tree:
    """The roots of the perfect subtrees so far, largest first: memory grows with the logarithm of the size."""

    __slots__ = ("_peaks", "size")

    def __init__(self, peaks: Iterable[bytes] = (), size: int = 0) -> None:
        self._peaks = list(peaks)
        self.size = size

    def append(self, leaf: bytes) -> None:
        """Add the leaf hash of the next index."""
        peaks, size = self._peaks, self.size
        while size & 1:
            leaf = sha256(b"\x01" + peaks.pop() + leaf).digest()
            size >>= 1
        peaks.append(leaf)
        self.size += 1

    def copy(self) -> Tree:
        """Return a tree that grows on its own from here."""
        return Tree(self._peaks, self.size)

    def root(self) -> bytes:
        """Return the root over the leaves so far; for none, H("")."""
        if not self._peaks:
            return EMPTY_ROOT
        *lefts, root = self._peaks
        for left in reversed(lefts):
            root = node_hash(left, root)
        return root


def root_from_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Return the root that an inclusion path leads to (RFC 9162 §2.1.3.2); None where its length does not fit.

    Args:
        leaf: the leaf's hash.
        index: of the leaf, below `size`.
        size: of the tree.
        path: sibling hashes, from the leaf up.
    """
    place, last, root = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return None
        if place & 1 or place == last:
            root = node_hash(sibling, root)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        place, last = place >> 1, last >> 1
    return root if last == 0 else None


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Tell whether a proof shows that the log of `new` leaves begins with that of `old` (RFC 9162 §2.1.4.2).

    Args:
        old: a size, at least 1.
        new: a size, at least `old`.
        old_root: over the first.
        new_root: over the second.
        path: the proof; nothing where the sizes are the same.
    """
    if any(len(each) != HASH_BYTES for each in path):
        return False
    if old == new:
        return not path and old_root == new_root
    # Where the old tree is perfect its root is not sent.
    hashes = [old_root, *path] if old & (old - 1) == 0 else list(path)
    if not hashes or not 0 < old < new:
        return False
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    first, *others = hashes
    found_old = found_new = first
    for each in others:
        if last == 0:
            return False
        if place & 1 or place == last:
            found_old, found_new = node_hash(each, found_old), node_hash(each, found_new)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found_new = node_hash(found_new, each)
        place, last = place >> 1, last >> 1
    return (found_old, found_new, last) == (old_root, new_root, 0)
