"""A tree that grows and tells which complete subtrees arose: what `audit_node` keeps for quick proofs."""

from typing import NamedTuple

from audit.tree import EMPTY_ROOT, Tree

LEVEL = 8


class Node(NamedTuple):
    """The hash of the complete subtree of 2^level leaves that has `place` others before it."""

    level: int
    place: int
    hash: bytes


class Peaks(Tree):
    """A tree that knows its last leaf hash, too, and notes complete subtrees of 256 leaves and more in `nodes`."""

    __slots__ = ("last", "nodes")

    def __init__(self) -> None:
        super().__init__()
        self.last = EMPTY_ROOT
        self.nodes: list[Node] = []

    def copy(self) -> "Peaks":
        """Return one that grows by itself, without the nodes that this one noted."""
        made = Peaks()
        made._size, made._peaks, made.last = self._size, self._peaks.copy(), self.last
        return made

    def append(self, leaf: bytes) -> None:
        """Add the 32-byte hash of the next leaf."""
        super().append(leaf)
        self.last = leaf

    def _joined(self, level: int, place: int, node: bytes) -> None:
        if level >= LEVEL:
            self.nodes.append(Node(level, place, node))
