"""The Merkle tree over leaf hashes (RFC 6962 §2.1, LEDGER.md Bytes 4).

A tree here is only the roots of its perfect subtrees, largest first: 64 hashes are enough for any ledger,
so a root over millions of entries is computed as they stream by.
"""

from collections.abc import Iterable
from hashlib import sha256

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    """Return the 32-byte hash of leaf bytes L: H(0x00‖L) (RFC 6962 §2.1)."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the 32-byte hash of two 32-byte child hashes: H(0x01‖left‖right) (RFC 6962 §2.1)."""
    return sha256(b"\x01" + left + right).digest()


def root(hashes: Iterable[bytes]) -> bytes:
    """Return the 32-byte root over leaf hashes in order of index; for none, H("") (RFC 6962 §2.1).

    Reads the iterable once, in O(log n) memory. Raises ValueError for a hash that is not 32 bytes.
    """
    tree = Tree()
    for leaf in hashes:
        tree.append(leaf)
    return tree.root()


class Tree:
    """A growing tree that knows its size and root, in O(log n) memory."""

    __slots__ = ("_peaks", "_size")

    def __init__(self) -> None:
        self._peaks: list[bytes] = []
        self._size = 0

    @property
    def size(self) -> int:
        """The number of leaves."""
        return self._size

    def append(self, leaf: bytes) -> None:
        """Add the 32-byte leaf hash of the next index.

        Raises ValueError for another length: without it a caller who hands over leaf bytes, or a node,
        would get a root that nobody else can compute.
        """
        if len(leaf) != HASH_BYTES:
            raise ValueError(f"a leaf hash has {HASH_BYTES} bytes, this has {len(leaf)}")
        node, size = leaf, self._size
        while size & 1:
            node = node_hash(self._peaks.pop(), node)
            size >>= 1
        self._peaks.append(node)
        self._size += 1

    def root(self) -> bytes:
        """Return the 32-byte root of the leaves so far; for none, H("") (RFC 6962 §2.1)."""
        if not self._peaks:
            return EMPTY_ROOT
        *lefts, node = self._peaks
        for left in reversed(lefts):
            node = node_hash(left, node)
        return node
