"""Proofs against what the notary signed: that an entry is in the log, and that the log only grew.

A proof reads its part of the tree: the nodes that the notary keeps of complete subtrees of 256 leaves and more, and the
leaves beside them. None of it is authority: each proof is verified against a note whose signature is verified, and what
does not fit is never handed out. All of it runs in a transaction that sees the organization (`tenancy.within`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db import connection

from audit import entry as entry_rules
from audit import note as notes
from audit import tree
from audit.errors import (
    AuditError,
    LedgerUnproven,
    NotSigned,
    ProofInvalid,
)
from audit.models import Checkpoint
from audit.proofs import proof
from audit.signatures import verifier_keys
from audit.tree import Node

# Below this level no nodes are kept: a subtree of 256 leaves is read leaf by leaf.
LEVEL: Final = 8
BLOCK: Final = 1 << LEVEL
# A multiple of 256.
PAGE: Final = 25_600
# Only hashes leave the database: a leaf has up to 16 KiB.
LEAVES: Final = """
    SELECT index, sha256('\\x00'::bytea || leaf) FROM audit_entry
    WHERE organization_id = %s AND epoch = %s AND index >= %s AND index < %s ORDER BY index
"""
# One look-up for each: OFFSET 0 keeps the planner from reading all nodes of the log instead.
NODES: Final = """
    SELECT a.level, a.index, n.hash FROM unnest(%s::smallint[], %s::bigint[]) a (level, index)
    CROSS JOIN LATERAL (SELECT hash FROM audit_node
        WHERE organization_id = %s AND epoch = %s AND level = a.level AND index = a.index OFFSET 0) n
"""
BLOCKS: Final = """
    SELECT index, hash FROM audit_node
    WHERE organization_id = %s AND epoch = %s AND level = %s AND index >= %s AND index < %s
"""

type Place = tuple[int, int]


def inclusion_proof(organization_id: str, place: Place, checkpoint: Checkpoint | None = None) -> str:
    """Return the `.tlog-proof` of an entry (spec LEDGER, Bytes 8): that it stands where it does in the signed log.

    Against the newest checkpoint of the entry's epoch that covers it, unless one is given. At most 512 leaves and
    O(log n) nodes are read, in a constant number of queries, where the notary has kept the nodes.

    Raises NotSigned where no checkpoint covers the entry; LedgerUnproven where the entries don't lead to the signed
    root, or the note is not signed by the log's own keys.
    """
    epoch, index = place
    found = checkpoint or Checkpoint.objects.of(organization_id).filter(epoch=epoch).newest()
    if found is None or found.epoch != epoch or not 0 <= index < found.size:
        raise NotSigned(
            "The notary has not signed this entry yet. It signs within ten seconds of what is recorded."
        )
    signed = _opened(found)
    stored = _Stored(organization_id, epoch)
    hashes = stored.collect(lambda node: [*tree.inclusion(index, signed.size, node), node(0, index)])
    *path, leaf = hashes
    _verified(lambda: tree.verify_inclusion(index, signed.size, leaf, path, signed.root))
    return proof.write(index, path, found.note)


def consistency_proof(organization_id: str, epoch: int, old_size: int, new_size: int) -> list[bytes]:
    """Return the hashes, 32 bytes each, that prove a checkpoint's log to begin with an older one's (Bytes 9).

    Both sizes, 0 < old ≤ new, are of checkpoints that the notary published in this epoch.

    Raises NotSigned for a size that was never signed; LedgerUnproven where the entries don't lead to both roots.
    """
    older, newer = (_signed(organization_id, epoch, size) for size in (old_size, new_size))
    if older.size > newer.size:
        raise NotSigned("The older checkpoint is the larger one: a log never shrinks.")
    stored = _Stored(organization_id, epoch)
    hashes = stored.collect(lambda node: tree.consistency(older.size, newer.size, node))
    _verified(lambda: tree.verify_consistency(older.size, newer.size, older.root, newer.root, hashes))
    return hashes


def _signed(organization_id: str, epoch: int, size: int) -> notes.Checkpoint:
    found = Checkpoint.objects.of(organization_id).filter(epoch=epoch, size=size).first()
    if found is None:
        raise NotSigned(f"No checkpoint of {size} entries was published.")
    return _opened(found)


def _opened(checkpoint: Checkpoint) -> notes.Checkpoint:
    """Return what a note says, having verified that a key of the log signed it and that it is of this row."""
    organization_id, epoch = checkpoint.organization_id, checkpoint.epoch
    try:
        keys = [notes.VerifierKey.parse(each) for each in verifier_keys.published(organization_id, epoch)]
        host = keys[0].name.partition("/")[0] if keys else ""
        origin = entry_rules.origin(host, organization_id, epoch)
        signed = notes.open_checkpoint(checkpoint.note, origin, keys)
    except AuditError as error:
        raise LedgerUnproven(
            f"The checkpoint of {checkpoint.size} entries can't be trusted: {error}."
        ) from error
    if (signed.size, signed.root) != (checkpoint.size, bytes(checkpoint.root)):
        raise LedgerUnproven(f"The checkpoint of {checkpoint.size} entries is not the one that was signed.")
    return signed


def _verified(verify: Callable[[], None]) -> None:
    try:
        verify()
    except ProofInvalid as error:
        raise LedgerUnproven(f"The entries don't lead to what the notary signed: {error}.") from error


@dataclass(frozen=True, slots=True)
class _Stored:
    """The stored tree of one log."""

    organization_id: str
    epoch: int

    def collect(self, prove: Callable[[Node], list[bytes]]) -> list[bytes]:
        """Return what `prove` makes of nodes, having asked it first for which of them: so that all are read at once."""
        asked: dict[tuple[int, int], None] = {}

        def ask(level: int, index: int) -> bytes:
            asked[level, index] = None
            return bytes(tree.HASH_BYTES)

        prove(ask)
        found = self._nodes([each for each in asked if each[0] >= LEVEL])
        leaves = self._leaves([each for each in asked if each[0] < LEVEL])

        def answer(level: int, index: int) -> bytes:
            if level >= LEVEL:
                return found[level, index]
            first = index << level
            return tree.root(leaves[number] for number in range(first, first + (1 << level)))

        return prove(answer)

    def _nodes(self, asked: list[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
        if not asked:
            return {}
        levels, indexes = zip(*asked, strict=True)
        rows = self._query(NODES, [list(levels), list(indexes), *self._log])
        found = {(level, index): bytes(hash_) for level, index, hash_ in rows}
        return found | {each: self._recomputed(*each) for each in asked if each not in found}

    def _leaves(self, asked: list[tuple[int, int]]) -> dict[int, bytes]:
        """Return leaf hashes by index: of each block of 256, which a proof asks of at most two, in one query."""
        blocks: dict[int, tuple[int, int]] = {}
        for level, index in asked:
            first, end = index << level, (index + 1) << level
            lowest, highest = blocks.get(first >> LEVEL, (first, end))
            blocks[first >> LEVEL] = min(first, lowest), max(end, highest)
        return {
            index: hash_ for first, end in blocks.values() for index, hash_ in self._leaf_hashes(first, end)
        }

    def _recomputed(self, level: int, index: int) -> bytes:
        """Return a node that is not stored, from the stored nodes of 256 leaves and the leaves where there are none."""
        first, count = index << (level - LEVEL), 1 << (level - LEVEL)
        rows = self._query(BLOCKS, [*self._log, LEVEL, first, first + count])
        stored = {number: bytes(hash_) for number, hash_ in rows}
        nodes = [stored.get(number) for number in range(first, first + count)]
        for begin, end in _gaps(nodes):
            nodes[begin:end] = self._block_hashes(first + begin, first + end)
        # Over complete subtrees of one level the tree is the same as over leaves.
        return tree.root(node for node in nodes if node is not None)

    def _block_hashes(self, first: int, end: int) -> list[bytes]:
        """Return the hashes of blocks of 256 leaves that are not stored, in pages."""
        found: list[bytes] = []
        for begin in range(first << LEVEL, end << LEVEL, PAGE):
            stop = min(begin + PAGE, end << LEVEL)
            hashes = [hash_ for _, hash_ in self._leaf_hashes(begin, stop)]
            found += [tree.root(hashes[at : at + BLOCK]) for at in range(0, len(hashes), BLOCK)]
        return found

    def _leaf_hashes(self, first: int, end: int) -> list[tuple[int, bytes]]:
        found = [(index, bytes(hash_)) for index, hash_ in self._query(LEAVES, [*self._log, first, end])]
        if [index for index, _ in found] != list(range(first, end)):
            raise LedgerUnproven("Entries below what the notary signed are missing.")
        return found

    @property
    def _log(self) -> tuple[str, int]:
        return self.organization_id, self.epoch

    @staticmethod
    def _query(sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


def _gaps(nodes: Iterable[bytes | None]) -> list[tuple[int, int]]:
    """Return where there is nothing, as ranges."""
    gaps: list[tuple[int, int]] = []
    for at, node in enumerate(nodes):
        if node is not None:
            continue
        if gaps and gaps[-1][1] == at:
            gaps[-1] = gaps[-1][0], at + 1
        else:
            gaps.append((at, at + 1))
    return gaps
