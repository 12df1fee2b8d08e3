"""Proofs from the stored ledger: each is verified before it is handed out, and few rows are read for it."""

import random

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit import note, tenancy, tree
from audit.errors import LedgerUnproven, NotSigned
from audit.models import Checkpoint, Entry
from audit.proofs import proof, proving
from audit.signatures import verifier_keys
from tests import bundles, ledgers, nodes

SIZE = 1100
SIZES = (1, 256, 600, 1024, SIZE)


@pytest.fixture(scope="module")
def ledger(django_db_setup, django_db_blocker):
    """A ledger of 1,100 entries with checkpoints at several sizes and its nodes; the id, and the leaf hashes."""
    with django_db_blocker.unblock():
        organization_id = ledgers.new(SIZE)
        for size in SIZES:
            bundles.sign(organization_id, size)
        return organization_id, nodes.keep(organization_id)


@pytest.fixture
def small():
    """A ledger of this test alone, signed at all of its seven entries."""
    organization_id = ledgers.new(7)
    bundles.sign(organization_id)
    return organization_id


def proved(organization_id, index, checkpoint=None):
    with tenancy.within(organization_id):
        return proving.inclusion_proof(organization_id, (1, index), checkpoint)


def opened(organization_id, text, index):
    """Open a proof file as its reader would; return the checkpoint."""
    with tenancy.within(organization_id):
        keys = [note.VerifierKey.parse(each) for each in verifier_keys.published(organization_id, 1)]
        entry = Entry.objects.of(organization_id).get(epoch=1, index=index)
    assert proof.read(text).index == index
    return proof.open_proof(text, bytes(entry.leaf), keys[0].name, keys)


class TestInclusion:
    def test_of_entries_all_over_the_ledger(self, ledger):
        organization_id, _ = ledger
        for index in {
            0,
            1,
            255,
            256,
            511,
            512,
            1023,
            1024,
            SIZE - 1,
            *random.Random(1).sample(range(SIZE), 40),
        }:
            text = proved(organization_id, index)
            assert opened(organization_id, text, index).size == SIZE

    def test_against_an_older_checkpoint(self, ledger):
        organization_id, _ = ledger
        with tenancy.within(organization_id):
            older = Checkpoint.objects.of(organization_id).get(size=600)
        assert opened(organization_id, proved(organization_id, 599, older), 599).size == 600
        with pytest.raises(NotSigned):
            proved(organization_id, 600, older)

    def test_a_new_entry_waits_for_the_notary(self, small):
        ledgers.append(small, 1, first=7)
        proved(small, 6)
        with pytest.raises(NotSigned, match="not signed this entry yet"):
            proved(small, 7)
        bundles.sign(small)
        assert opened(small, proved(small, 7), 7).size == 8

    @pytest.mark.parametrize("place", [(1, -1), (1, 7), (2, 0)])
    def test_what_there_is_not(self, small, place):
        with tenancy.within(small), pytest.raises(NotSigned):
            proving.inclusion_proof(small, place)

    def test_few_rows_and_a_constant_number_of_queries(self, ledger):
        organization_id, _ = ledger
        for index in (0, 300, 1050, SIZE - 1):
            with tenancy.within(organization_id), CaptureQueriesContext(connection) as queries:
                proving.inclusion_proof(organization_id, (1, index))
            assert len(queries) <= 5
            read = [query["sql"] for query in queries if "sha256" in query["sql"]]
            assert 1 <= len(read) <= 2


class TestConsistency:
    def test_between_all_checkpoints(self, ledger):
        organization_id, hashes = ledger
        for at, new in enumerate(SIZES):
            for old in SIZES[: at + 1]:
                with tenancy.within(organization_id):
                    found = proving.consistency_proof(organization_id, 1, old, new)
                tree.verify_consistency(old, new, tree.root(hashes[:old]), tree.root(hashes[:new]), found)

    @pytest.mark.parametrize(("old", "new"), [(0, SIZE), (2, SIZE), (1024, 600), (600, SIZE + 1)])
    def test_only_of_what_was_signed(self, ledger, old, new):
        organization_id, _ = ledger
        with tenancy.within(organization_id), pytest.raises(NotSigned):
            proving.consistency_proof(organization_id, 1, old, new)


class TestWithoutNodes:
    def test_they_are_recomputed(self):
        organization_id = ledgers.new(SIZE)
        for size in (600, SIZE):
            bundles.sign(organization_id, size)
        assert opened(organization_id, proved(organization_id, 1090), 1090).size == SIZE
        with ledgers.superuser() as connection_:
            # A part of them: as where a notary was stopped.
            whole = nodes.keep(organization_id)
            connection_.execute(
                "DELETE FROM audit_node WHERE organization_id = %s AND (level, index) NOT IN ((8, 0), (8, 3))",
                [organization_id],
            )
        for index in (0, 300, 1090):
            assert opened(organization_id, proved(organization_id, index), index).size == SIZE
        with tenancy.within(organization_id):
            found = proving.consistency_proof(organization_id, 1, 600, SIZE)
        tree.verify_consistency(600, SIZE, tree.root(whole[:600]), tree.root(whole), found)


class TestTampering:
    """Nothing that does not fit is handed out."""

    def test_a_changed_entry_proves_neither_itself_nor_its_neighbour(self, small):
        with ledgers.without_triggers() as connection_:
            connection_.execute(
                "UPDATE audit_entry SET leaf = replace(convert_from(leaf, 'UTF8'), 'ingest', 'Ingest')::bytea"
                " WHERE organization_id = %s AND index = 3",
                [small],
            )
        for index in (3, 2, 6):
            with pytest.raises(LedgerUnproven, match="another root"):
                proved(small, index)

    def test_a_missing_entry(self, small):
        with ledgers.without_triggers() as connection_:
            connection_.execute("DELETE FROM audit_sealed WHERE organization_id = %s AND index = 3", [small])
            connection_.execute("DELETE FROM audit_entry WHERE organization_id = %s AND index = 3", [small])
        for index in (3, 2):
            with pytest.raises(LedgerUnproven, match="missing"):
                proved(small, index)

    def test_a_wrong_node(self):
        organization_id = ledgers.new(600)
        bundles.sign(organization_id)
        nodes.keep(organization_id)
        with ledgers.superuser() as connection_:
            connection_.execute(
                "UPDATE audit_node SET hash = sha256('x') WHERE organization_id = %s AND level = 8 AND index = 1",
                [organization_id],
            )
        with pytest.raises(LedgerUnproven):
            proved(organization_id, 3)
        assert proved(organization_id, 300)

    @pytest.mark.parametrize(
        "change",
        [
            "root = sha256('x')",
            "note = replace(note, E'\\n7\\n', E'\\n6\\n')",
            "note = replace(note, '— ledger', '— other')",
            "note = 'x'",
            "note = (SELECT note FROM audit_checkpoint WHERE organization_id <> c.organization_id LIMIT 1)",
        ],
    )
    def test_a_changed_checkpoint(self, small, ledger, change):
        with ledgers.superuser() as connection_:
            connection_.execute("SET session_replication_role = replica")
            connection_.execute("ALTER TABLE audit_checkpoint DISABLE TRIGGER audit_checkpoint_stays")
            connection_.execute(
                f"UPDATE audit_checkpoint c SET {change} WHERE organization_id = %s".encode(),
                [small],
            )
            connection_.execute("ALTER TABLE audit_checkpoint ENABLE ALWAYS TRIGGER audit_checkpoint_stays")
        with pytest.raises(LedgerUnproven, match="checkpoint of 7 entries"):
            proved(small, 2)

    def test_another_history_is_not_consistent(self, small):
        """Signed by a thief of the key: the database's own history no longer leads to it."""
        with tenancy.within(small):
            origin = Checkpoint.objects.of(small).get().note.partition("\n")[0]
        other = note.sign(note.checkpoint_text(origin, 5, bytes(32)), origin, bundles.SIGNER)
        with ledgers.superuser() as connection_:
            connection_.execute(
                "INSERT INTO audit_checkpoint VALUES (%s, 1, 5, %s, %s, now(), now())",
                [small, bytes(32), other],
            )
        with tenancy.within(small), pytest.raises(LedgerUnproven, match="older root"):
            proving.consistency_proof(small, 1, 5, 7)


def test_nothing_of_a_stranger_is_seen(small, ledger):
    with tenancy.within(ledger[0]), pytest.raises(NotSigned):
        proving.inclusion_proof(small, (1, 2))
