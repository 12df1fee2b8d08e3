"""A tree that grows and tells which complete subtrees arose: what `audit_node` keeps for quick proofs."""

from typing import NamedTuple

from audit.tree import EMPTY_ROOT, node_hash

LEVEL = 8


class Node(NamedTuple):
    """The hash of the complete subtree of 2^level leaves that has `place` others before it."""

    level: int
    place: int
    hash: bytes


class Peaks:
    """The roots of a tree's perfect subtrees, largest first, and the hash of its last leaf."""

    __slots__ = ("hashes", "last", "nodes", "size")

    def __init__(self) -> None:
        self.size = 0
        self.hashes: list[bytes] = []
        self.last = EMPTY_ROOT
        self.nodes: list[Node] = []

    def copy(self) -> "Peaks":
        """Return one that grows by itself, without the nodes that this one noted."""
        made = Peaks()
        made.size, made.hashes, made.last = self.size, self.hashes.copy(), self.last
        return made

    def append(self, leaf: bytes) -> None:
        """Add the hash of the next leaf; complete subtrees of 256 leaves and more are noted in `nodes`."""
        node, size, level = leaf, self.size, 0
        while size & 1:
            node = node_hash(self.hashes.pop(), node)
            size >>= 1
            level += 1
            if level >= LEVEL:
                self.nodes.append(Node(level, size, node))
        self.hashes.append(node)
        self.size += 1
        self.last = leaf

    def root(self) -> bytes:
        """Return the 32-byte root (RFC 6962 §2.1)."""
        if not self.hashes:
            return EMPTY_ROOT
        *lefts, node = self.hashes
        for left in reversed(lefts):
            node = node_hash(left, node)
        return node
