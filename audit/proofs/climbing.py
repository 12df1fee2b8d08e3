"""The path of an inclusion proof as one can follow it by hand: from the leaf, hash by hash, to the root. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from audit.tree import node_hash


@dataclass(frozen=True, slots=True)
class Step:
    """One hash of a proof, 32 bytes: it stands `is_left` of what is known so far, or right; `node` is both hashed."""

    sibling: bytes
    is_left: bool
    node: bytes


def climb(index: int, size: int, leaf: bytes, hashes: Sequence[bytes]) -> Iterator[Step]:
    """Yield the steps from entry `index` of `size`, whose leaf hash is `leaf`, up to the root (RFC 9162, 2.1.3.2).

    Verifies nothing: the last step's `node` is the root where the proof is right.
    """
    place, last, node = index, size - 1, leaf
    for sibling in hashes:
        is_left = place % 2 == 1 or place == last
        node = node_hash(sibling, node) if is_left else node_hash(node, sibling)
        yield Step(sibling, is_left, node)
        while is_left and place % 2 == 0 and place:
            place, last = place // 2, last // 2
        place, last = place // 2, last // 2
