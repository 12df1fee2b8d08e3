"""What a ledger's own entries say of the keys that sign it."""

import pytest

from audit import ledger, tenancy
from audit.actors import WORKER
from audit.note import VerifierKey
from audit.signatures import verifier_keys
from tests import ledgers

OTHER = b"\x11" * 32


def log_of(organization_id):
    return f"ledger.example/ledger/{organization_id}"


def vkey(organization_id, public=OTHER):
    return VerifierKey(log_of(organization_id), public).format()


def say(organization_id, act, text):
    with tenancy.within(organization_id), ledger.recording(organization_id, WORKER) as entry:
        entry(act, target=log_of(organization_id), data={"vkey": text})


@pytest.fixture
def organization_id():
    return ledgers.new(3)


class TestVerifierKeys:
    def test_the_key_that_opened_it(self, organization_id):
        with tenancy.within(organization_id):
            own = [ledger.verifier_key(log_of(organization_id))]
            assert verifier_keys.published(organization_id, 1) == own
            assert verifier_keys.signing(organization_id, 1) == own
            assert verifier_keys.published(organization_id, 2) == []

    def test_a_rotation(self, organization_id):
        old, new = ledger.verifier_key(log_of(organization_id)), vkey(organization_id)
        say(organization_id, "ledger.key_added", new)
        with tenancy.within(organization_id):
            assert verifier_keys.signing(organization_id, 1) == [old, new]
        say(organization_id, "ledger.key_retired", old)
        with tenancy.within(organization_id):
            assert verifier_keys.published(organization_id, 1) == [old, new]
            assert verifier_keys.signing(organization_id, 1) == [new]

    def test_as_of_a_size_through_the_notarys_login(self, organization_id):
        say(organization_id, "ledger.key_added", vkey(organization_id))
        before = verifier_keys.events(organization_id, 1, size=3, using="notary")
        after = verifier_keys.events(organization_id, 1, size=4, using="notary")
        assert (len(before), len(after)) == (1, 2)

    def test_nothing_of_a_strangers(self, organization_id):
        with tenancy.within(ledgers.new(2)):
            assert verifier_keys.published(organization_id, 1) == []
