"""What is published: checkpoints and nodes as the tables hold them, for comparing with what they should be."""

from collections.abc import Sequence
from typing import NamedTuple

from audit.notary.peaks import Node
from audit.notary.publishing import node_arrays
from audit.notary.reading import query
from audit.notary.state import Signed

type Place = tuple[str, int]

NOTES = 1_000
# Whoever can write may have put an entry at the largest bigint, beyond which there is no size.
ROOTS = """
    SELECT c.organization_id, c.epoch, c.size, c.root
    FROM unnest(%s::text[], %s::smallint[], %s::bigint[], %s::bigint[]) r (organization_id, epoch, first, last)
    JOIN audit_checkpoint c ON c.organization_id = r.organization_id AND c.epoch = r.epoch
        AND c.size > r.first AND c.size <= least(r.last, 9223372036854775806) + 1
"""
NEWEST = """
    SELECT c.organization_id, c.epoch, c.size FROM unnest(%s::text[]) o (id), LATERAL (
        SELECT * FROM audit_checkpoint c WHERE c.organization_id = o.id ORDER BY epoch DESC, size DESC LIMIT 1) c
"""
WRONG_NODES = """
    SELECT u.place::int FROM unnest(%(organizations)s::text[], %(epochs)s::smallint[], %(levels)s::smallint[],
            %(indexes)s::bigint[], %(hashes)s::bytea[])
            WITH ORDINALITY u (organization_id, epoch, level, index, hash, place)
        LEFT JOIN audit_node n USING (organization_id, epoch, level, index)
    WHERE n.hash IS DISTINCT FROM u.hash
"""
NEWEST_NOTES = """
    SELECT epoch, size, root, note FROM audit_checkpoint
    WHERE organization_id = %s ORDER BY epoch DESC, size DESC LIMIT %s
"""


class Range(NamedTuple):
    """Entries of one log, from `first` to `last`."""

    organization_id: str
    epoch: int
    first: int
    last: int


def roots(ranges: Sequence[Range]) -> dict[tuple[str, int, int], bytes]:
    """Return (organization, epoch, size) → root of the checkpoints of sizes that end within these entries."""
    columns = [list(column) for column in zip(*ranges, strict=True)] or [[], [], [], []]
    return {(who, epoch, size): root for who, epoch, size, root in query(ROOTS, columns)}


def newest(organizations: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return (organization, epoch, size) of the newest checkpoint of each of these ledgers that has one."""
    return [(who, epoch, size) for who, epoch, size in query(NEWEST, [list(organizations)])]


def wrong_nodes(nodes: Sequence[tuple[Signed, Node]]) -> list[tuple[Signed, Node]]:
    """Return those of the nodes that the table lacks or holds otherwise."""
    return [nodes[place - 1] for (place,) in query(WRONG_NODES, node_arrays(nodes))] if nodes else []


def notes(organization_id: str) -> list[tuple[int, int, bytes, str]]:
    """Return (epoch, size, root, note) of a ledger's newest checkpoints, at most 1,000."""
    return [
        (epoch, size, root, text) for epoch, size, root, text in query(NEWEST_NOTES, [organization_id, NOTES])
    ]
