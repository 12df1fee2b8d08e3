"""The offline bundle: to the byte, in one snapshot, and never one that would not verify."""

import io
import json
import tracemalloc
import zipfile

import psycopg
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from audit import ledger, tenancy
from audit.errors import BundleUnavailable
from audit.exports import bundle
from audit.models import Entry
from tests import bundles, ledgers


def made(organization_id, **options):
    with tenancy.within(organization_id):
        return bundle.open_bundle(organization_id, **options)


def whole(organization_id, **options):
    return b"".join(made(organization_id, **options))


def erase(organization_id, indexes, fields=("email",)):
    with tenancy.within(organization_id), ledger.recording(organization_id, ledgers.ALICE) as entry:
        entry("ledger.erasure", target="usr_alice", data={"entries": list(indexes), "fields": list(fields)})


class TestBytes:
    def test_holds_the_log_up_to_its_newest_checkpoint(self):
        organization_id = ledgers.new(5)
        bundles.sign(organization_id, 3)
        signed = bundles.sign(organization_id, 4)
        data = whole(organization_id)
        found = bundles.read([data])
        assert found.size == len(found.entries) == 4
        assert found.names == ["vkeys", "checkpoint", "entries.jsonl", "sealed.jsonl"]
        assert found.openings[1, "email"] == "alice@northline.example"
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            assert file.read("checkpoint").decode() == signed
            with tenancy.within(organization_id):
                leaves = [bytes(e.leaf) for e in Entry.objects.oldest_first()[:4]]
            assert file.read("entries.jsonl") == b"".join(leaf + b"\n" for leaf in leaves)
            assert {info.compress_type for info in file.infolist()} == {zipfile.ZIP_DEFLATED}

    def test_over_more_than_a_page_and_again_the_same_bytes(self):
        organization_id = ledgers.new(2 * bundle.PAGE + 3)
        bundles.sign(organization_id)
        first, second = whole(organization_id), whole(organization_id)
        assert bundles.read([first]).size == 2 * bundle.PAGE + 3
        assert first == second

    def test_with_an_older_checkpoint(self):
        organization_id = ledgers.new(4)
        old = bundles.sign(organization_id, 2)
        bundles.sign(organization_id)
        data = whole(organization_id, old_note=old)
        bundles.read([data])
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            assert file.read("old-checkpoint").decode() == old

    def test_tells_how_far_it_is(self):
        organization_id = ledgers.new(2 * bundle.PAGE + 3)
        bundles.sign(organization_id)
        told = []
        running = made(organization_id, told=told.append)
        assert b"".join(running)
        assert told[:3] == [bundle.PAGE, 2 * bundle.PAGE, 2 * bundle.PAGE + 3]
        assert running.openings == sum(1 for _ in bundles.read([whole(organization_id)]).openings)

    @given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
    def test_an_opening_is_written_as_rfc_8785_has_it(self, value):
        line = bundle._opening("note", 2**53 - 1, b"\x00\xff" * 16, value)
        assert line.endswith("\n")
        assert rfc8785.dumps(json.loads(line)) == line[:-1].encode()

    def test_of_another_organization_nothing(self):
        stranger, own = ledgers.new(3), ledgers.new(3)
        bundles.sign(stranger)
        bundles.sign(own)
        with tenancy.within(own):
            found = bundles.read(bundle.open_bundle(own))
        assert own in found.entries[0].log


class TestErasure:
    def test_what_was_erased_is_absent_and_the_bundle_says_why(self):
        organization_id = ledgers.new(4)
        erase(organization_id, [1, 2])
        bundles.sign(organization_id)
        found = bundles.read(made(organization_id))
        assert {place for place in found.openings if place[1] == "email"} == {(3, "email"), (4, "email")}

    def test_none_is_made_until_the_erasure_is_signed(self):
        organization_id = ledgers.new(4)
        bundles.sign(organization_id)
        erase(organization_id, [1])
        with pytest.raises(BundleUnavailable, match="yet to sign") as refused:
            made(organization_id)
        assert refused.value.retry_seconds
        bundles.sign(organization_id)
        assert (1, "email") not in bundles.read(made(organization_id)).openings

    def test_what_is_erased_meanwhile_is_there_still(self):
        """The snapshot is of before; read without one, the openings would be gone and no entry would say so."""
        organization_id = ledgers.new(3 * bundle.PAGE)
        bundles.sign(organization_id)
        running = made(organization_id)
        pieces = [next(running)]
        erase(organization_id, [1, 3 * bundle.PAGE - 1])
        bundles.sign(organization_id)
        found = bundles.read([*pieces, *running])
        assert found.size == 3 * bundle.PAGE
        assert {(1, "email"), (3 * bundle.PAGE - 1, "email")} <= set(found.openings)

    def test_of_an_epoch_that_has_ended_it_can_not_be_said(self):
        organization_id = ledgers.new(3)
        bundles.sign(organization_id)
        leaf = json.dumps({"data": {"entries": [1], "fields": ["email"], "epoch": 1}}).encode()
        with ledgers.without_triggers() as connection:
            connection.execute(
                "INSERT INTO audit_entry VALUES (%s, 2, 1, %s, 'ledger.erasure', 'usr_a', '', '', now())",
                [organization_id, leaf],
            )
        with pytest.raises(BundleUnavailable, match="had ended") as refused:
            made(organization_id, epoch=1)
        assert refused.value.retry_seconds is None


class TestRefusals:
    def test_without_a_checkpoint(self):
        organization_id = ledgers.new(3)
        with pytest.raises(BundleUnavailable, match="not signed"):
            made(organization_id)

    def test_of_an_epoch_that_there_is_not(self):
        organization_id = ledgers.new(3)
        bundles.sign(organization_id)
        with pytest.raises(BundleUnavailable):
            made(organization_id, epoch=2)


class TestConnection:
    def test_can_not_write_and_is_let_go(self):
        organization_id = ledgers.new(3 * bundle.PAGE)
        bundles.sign(organization_id)
        running = made(organization_id)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            running._connection.execute("CREATE TEMPORARY TABLE t ()").fetchone()
        running.close()
        assert running._connection.closed
        assert list(running) == []

    def test_a_tampered_ledger_is_exported_as_it_stands(self):
        """So that whoever checks the bundle sees it, too."""
        organization_id = ledgers.new(4)
        bundles.sign(organization_id)
        with ledgers.without_triggers() as connection:
            connection.execute(
                "DELETE FROM audit_sealed WHERE organization_id = %s AND index = 2", [organization_id]
            )
            connection.execute(
                "DELETE FROM audit_entry WHERE organization_id = %s AND index = 2", [organization_id]
            )
        with pytest.raises(Exception, match="does not follow"):
            bundles.read(made(organization_id))


def test_memory_is_flat():
    small, large = ledgers.new(2 * bundle.PAGE), ledgers.new(8 * bundle.PAGE)
    peaks = []
    for organization_id in (small, large):
        bundles.sign(organization_id)
        tracemalloc.start()
        for _ in made(organization_id):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]
