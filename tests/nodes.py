"""The upper nodes of a ledger's tree, kept as the notary keeps them."""

from audit import tenancy, tree
from audit.models import Entry
from audit.proofs.proving import LEVEL
from tests import ledgers


def keep(organization_id: str, *, epoch: int = 1) -> list[bytes]:
    """Store every complete subtree of 256 leaves and more; return the leaf hashes."""
    with tenancy.within(organization_id):
        rows = Entry.objects.of(organization_id).filter(epoch=epoch).oldest_first()
        hashes = [tree.leaf_hash(bytes(leaf)) for leaf in rows.values_list("leaf", flat=True)]
    nodes, level, level_hashes = [], 0, hashes
    while len(level_hashes) > 1:
        pairs = zip(level_hashes[::2], level_hashes[1::2], strict=False)
        level, level_hashes = level + 1, [tree.node_hash(*pair) for pair in pairs]
        if level >= LEVEL:
            nodes += [(organization_id, epoch, level, at, node) for at, node in enumerate(level_hashes)]
    with ledgers.superuser() as connection, connection.cursor() as cursor:
        cursor.executemany("INSERT INTO audit_node VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING", nodes)
    return hashes
