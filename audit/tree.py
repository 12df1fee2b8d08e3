"""The Merkle tree over leaf hashes, and proofs of what is in it (RFC 6962 §2.1, LEDGER.md Bytes 4 and 9).

A tree here is only the roots of its perfect subtrees, largest first: 64 hashes are enough for any ledger,
so a root over millions of entries is computed as they stream by.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from audit.errors import ProofInvalid

# (level, index) → the 32-byte hash of the complete subtree over the leaves [index·2^level, (index+1)·2^level).
type Node = Callable[[int, int], bytes]

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()


@dataclass(frozen=True, slots=True)
class Point:
    """A size of a log and its 32-byte root."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Step:
    """One hash of a proof, 32 bytes: it stands `is_left` of what is known so far, or right; `node` is both hashed."""

    sibling: bytes
    is_left: bool
    node: bytes


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
        node, place, level = leaf, self._size, 0
        while place & 1:
            node, place, level = node_hash(self._peaks.pop(), node), place >> 1, level + 1
            self._joined(level, place, node)
        self._peaks.append(node)
        self._size += 1

    def _joined(self, level: int, place: int, node: bytes) -> None:
        """Hear of each subtree of two leaves and more that is complete: its root, and how many others are before it."""

    def root(self) -> bytes:
        """Return the 32-byte root of the leaves so far; for none, H("") (RFC 6962 §2.1)."""
        if not self._peaks:
            return EMPTY_ROOT
        *lefts, node = self._peaks
        for left in reversed(lefts):
            node = node_hash(left, node)
        return node


def inclusion(index: int, size: int, node: Node) -> list[bytes]:
    """Return the hashes, from the leaf up, that prove entry `index` to be in the tree of `size` leaves.

    `node` gives the hash of a complete subtree and is asked for O(log n) of them. RFC 6962 §2.1.1.
    Raises ValueError unless 0 ≤ index < size.
    """
    if not 0 <= index < size:
        raise ValueError("an index is below the size")
    path: list[bytes] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(_range(middle, high, node))
            high = middle
        else:
            path.append(_range(low, middle, node))
            low = middle
    return path[::-1]


def consistency(old: int, new: int, node: Node) -> list[bytes]:
    """Return the hashes that prove the tree of `new` leaves to begin with that of `old` leaves.

    None where both are the same. `node` as for `inclusion`. RFC 6962 §2.1.2.
    Raises ValueError unless 0 < old ≤ new: that a tree follows the empty one is nothing to prove.
    """
    if not 0 < old <= new:
        raise ValueError("an older size is above 0 and not above the newer")
    path: list[bytes] = []
    low, high = 0, new
    while old < high:
        middle = low + _split(high - low)
        if old <= middle:
            path.append(_range(middle, high, node))
            high = middle
        else:
            path.append(_range(low, middle, node))
            low = middle
    # Where the old tree is a whole subtree from the left edge on, its verifier has that root already.
    return path[::-1] if low == 0 else [_range(low, high, node), *path[::-1]]


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Check that `proof` leads from the leaf hash of entry `index` to the root over `size` leaves.

    All hashes have 32 bytes. RFC 9162 §2.1.3.2. Raises ProofInvalid, whatever the numbers and hashes are.
    """
    if not 0 <= index < size:
        raise ProofInvalid("the index is not below the size")
    _check_hashes(leaf, root, *proof)
    node = leaf
    for step in climb(index, size, leaf, proof):
        node = step.node
    if node != root:
        raise ProofInvalid("the proof leads to another root")


def climb(index: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> Iterator[Step]:
    """Yield the steps from entry `index` of `size`, whose leaf hash is `leaf`, up to what must be the root.

    RFC 9162 §2.1.3.2. Raises ProofInvalid for a proof that is too long or too short.
    """
    place, last, node = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofInvalid("the proof is too long")
        is_left = bool(place & 1) or place == last
        node = node_hash(sibling, node) if is_left else node_hash(node, sibling)
        yield Step(sibling, is_left, node)
        while is_left and not place & 1 and place:
            place, last = place >> 1, last >> 1
        place, last = place >> 1, last >> 1
    if last != 0:
        raise ProofInvalid("the proof is too short")


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree of `new` leaves begins with that of `old` leaves.

    All hashes have 32 bytes. RFC 9162 §2.1.4.2. Raises ProofInvalid, for old = 0 as well: nothing is proved of that.
    """
    if not 0 < old <= new:
        raise ProofInvalid("the older size is not above 0 and at most the newer")
    _check_hashes(old_root, new_root, *proof)
    if old == new:
        if proof or old_root != new_root:
            raise ProofInvalid("one size has one root")
        return
    if not proof:
        raise ProofInvalid("the proof is too short")
    hashes = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    _follow(old - 1, new - 1, old_root, new_root, hashes)


def _follow(place: int, last: int, old_root: bytes, new_root: bytes, hashes: Sequence[bytes]) -> None:
    while place & 1:
        place, last = place >> 1, last >> 1
    older = newer = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            raise ProofInvalid("the proof is too long")
        if place & 1 or place == last:
            older, newer = node_hash(sibling, older), node_hash(sibling, newer)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            newer = node_hash(newer, sibling)
        place, last = place >> 1, last >> 1
    if last != 0:
        raise ProofInvalid("the proof is too short")
    if older != old_root:
        raise ProofInvalid("the proof leads to another older root")
    if newer != new_root:
        raise ProofInvalid("the proof leads to another newer root")


def _split(size: int) -> int:
    """Return the largest power of two below a size of at least 2."""
    return 1 << ((size - 1).bit_length() - 1)


def _range(low: int, high: int, node: Node) -> bytes:
    """Return the root over the leaves from `low` up to `high`, which a proof's splits make of complete subtrees."""
    size = high - low
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return node(level, low >> level)
    middle = low + _split(size)
    return node_hash(_range(low, middle, node), _range(middle, high, node))


def _check_hashes(*hashes: bytes) -> None:
    if any(len(each) != HASH_BYTES for each in hashes):
        raise ProofInvalid(f"a hash has {HASH_BYTES} bytes")
