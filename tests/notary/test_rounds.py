"""Rounds: what grew is written to the file, signed, published; what is not as it was signed is not."""

import hashlib

import pytest

from audit import note, tenancy
from audit.models import Checkpoint
from audit.notary import state
from audit.tree import Point, leaf_hash, root
from tests import ledgers, notaries


@pytest.fixture
def notary(tmp_path):
    return notaries.new(tmp_path / "notary")


def newest(organization_id):
    with tenancy.within(organization_id):
        return Checkpoint.objects.of(organization_id).newest()


def leaves(organization_id):
    with ledgers.superuser() as superuser:
        query = "SELECT leaf FROM audit_entry WHERE organization_id = %s ORDER BY epoch, index"
        return [leaf_hash(leaf) for (leaf,) in superuser.execute(query, [organization_id])]


def opened(checkpoint, organization_id):
    origin = f"ledger.example/ledger/{organization_id}"
    return note.open_checkpoint(checkpoint.note, origin, [note.VerifierKey.of(origin, notaries.KEY)])


class TestGrowth:
    def test_a_new_ledger_is_signed_whole(self, notary):
        organization_id = ledgers.new(5)
        assert notary.round() >= 1
        found = newest(organization_id)
        told = opened(found, organization_id)
        assert (told.size, told.root) == (5, bytes(found.root)) == (5, root(leaves(organization_id)))
        on_disk = state.load(notary.folder).newest[organization_id]
        assert on_disk.point == Point(5, told.root)

    def test_it_is_signed_again_when_it_grew_and_only_then(self, notary):
        organization_id = ledgers.new(3)
        notary.round()
        assert notary.round() == 0
        ledgers.append(organization_id, 2, first=3)
        assert notary.round() == 1
        assert opened(newest(organization_id), organization_id).size == 5

    def test_another_that_starts_from_the_file_goes_on(self, notary):
        organization_id = ledgers.new(3)
        notary.round()
        ledgers.append(organization_id, 2, first=3)
        assert notaries.new(notary.folder).round() == 1
        assert opened(newest(organization_id), organization_id).root == root(leaves(organization_id))

    def test_it_notes_the_complete_subtrees(self, notary):
        organization_id = ledgers.new(700)
        notary.round()
        hashes = leaves(organization_id)
        with ledgers.superuser() as superuser:
            query = "SELECT level, index, hash FROM audit_node WHERE organization_id = %s ORDER BY 1, 2"
            found = superuser.execute(query, [organization_id]).fetchall()
        assert found == [
            (8, 0, root(hashes[:256])),
            (8, 1, root(hashes[256:512])),
            (9, 0, hashlib.sha256(b"\x01" + root(hashes[:256]) + root(hashes[256:512])).digest()),
        ]
