"""Two verifiers, written apart: over tamperings with a stored ledger they find the same fault in the same entry."""

import random

import pytest
from keystead.ledger import verify_bundle

from audit import tenancy
from audit.exports.bundle import open_bundle
from tests import bundles, ledgers, offline, tamperings
from tests.bench.tampering import offline_finds, portal_finds
from tests.tamperings import Tampering

SIZE = 12
NUMBER = 40


def both(tmp_path, tampering):
    organization_id = ledgers.new(SIZE)
    checkpoint = bundles.sign(organization_id)
    path = tmp_path / "ledger.zip"
    offline.from_rows(path, organization_id, checkpoint)
    assert portal_finds(organization_id) is offline_finds(path) is None
    tamperings.apply(organization_id, tampering)
    offline.from_rows(path, organization_id, checkpoint)
    return portal_finds(organization_id), offline_finds(path)


@pytest.mark.parametrize("fits_head", [False, True])
@pytest.mark.parametrize("number", range(NUMBER))
def test_a_tampering_is_found_by_both_and_named_alike(tmp_path, number, fits_head):
    """Where it is the end that was cut and the head that was made to fit, by the signed checkpoint."""
    tampering = tamperings.draw(random.Random(f"tampering {number}"), SIZE, fits_head=fits_head)
    theirs, ours = both(tmp_path, tampering)
    assert theirs == ours is not None, tampering


def test_every_kind_at_the_ends(tmp_path):
    last = SIZE - 1
    for tampering in (
        Tampering(kind="delete", index=0),
        Tampering(kind="delete", index=0, closes_ranks=True),
        Tampering(kind="delete", index=last - 1, closes_ranks=True),
        Tampering(kind="delete", index=last),
        Tampering(kind="swap", index=0, other=1),
        Tampering(kind="swap", index=last - 1, other=last),
        Tampering(kind="insert", index=1, closes_ranks=True),
        Tampering(kind="insert", index=last, closes_ranks=True),
        Tampering(kind="cut", index=1),
        Tampering(kind="cut", index=last),
    ):
        theirs, ours = both(tmp_path, tampering)
        assert theirs == ours is not None, tampering


@pytest.mark.parametrize("number", range(12))
def test_the_portals_own_bundle_names_the_same_entry(tmp_path, number):
    """As a customer has it: exported after the tampering. Where one entry more is there, the last is not in it."""
    organization_id = ledgers.new(SIZE)
    bundles.sign(organization_id)
    tampering = tamperings.draw(random.Random(f"exported {number}"), SIZE)
    tamperings.apply(organization_id, tampering)
    with tenancy.within(organization_id):
        exported = open_bundle(organization_id)
    path = tmp_path / "ledger.zip"
    path.write_bytes(b"".join(exported))
    assert offline_finds(path)[1:] == portal_finds(organization_id)[1:], tampering


def test_the_portals_own_bundle_of_a_good_ledger(tmp_path):
    organization_id = ledgers.new(SIZE)
    bundles.sign(organization_id)
    with tenancy.within(organization_id):
        exported = open_bundle(organization_id)
    path = tmp_path / "ledger.zip"
    path.write_bytes(b"".join(exported))
    found = verify_bundle(path)
    assert (found.checkpoint.organization_id, found.checkpoint.size) == (organization_id, SIZE)
    assert found.opened > SIZE
