"""The seal of a ledger in each of its states."""

import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import note, tenancy
from audit.signatures import notary_pulse, sealing
from audit.signatures.sealing import SealState
from orgs import ids
from tests import ledgers

KEY = Ed25519PrivateKey.from_private_bytes(sha256(b"TEST ONLY ledger log key 1").digest())


@pytest.fixture
def organization_id():
    return ledgers.new(3)


@pytest.fixture
def superuser():
    with ledgers.superuser() as connection:
        connection.execute("DELETE FROM audit_notary")
        yield connection
        connection.execute("DELETE FROM audit_notary")


def beat(superuser, ago=0, alarms=()):
    superuser.execute(
        "INSERT INTO audit_notary (instance, started_at, beat_at, swept_at, alarms)"
        " VALUES ('a', now(), now() - make_interval(secs => %s), now() - interval '5 seconds', %s)"
        " ON CONFLICT (id) DO UPDATE SET beat_at = excluded.beat_at, alarms = excluded.alarms",
        [ago, json.dumps(alarms)],
    )


def sign(superuser, organization_id, size, root=b"\x07" * 32):
    name = f"ledger.example/ledger/{organization_id}"
    text = note.sign(note.checkpoint_text(name, size, root), name, KEY)
    superuser.execute(
        "INSERT INTO audit_checkpoint VALUES (%s, 1, %s, %s, %s, now(), now())",
        [organization_id, size, root, text],
    )
    return note.VerifierKey.of(name, KEY)


def alarm(organization_id):
    since = datetime(2026, 11, 21, 12, tzinfo=UTC)
    return {
        "organization": organization_id,
        "epoch": 1,
        "index": 2,
        "kind": "altered",
        "what": "its bytes are no entry",
        "since": since.isoformat(),
    }


def seal(organization_id):
    with tenancy.within(organization_id):
        return sealing.seal(organization_id)


def append_long_ago(superuser, organization_id):
    superuser.execute("ALTER TABLE audit_entry DISABLE TRIGGER USER")
    superuser.execute(
        "UPDATE audit_entry SET at = at - interval '1 hour' WHERE organization_id = %s", [organization_id]
    )
    superuser.execute(ledgers.ALWAYS)


class TestSeal:
    def test_an_empty_ledger(self, superuser):
        found = seal(ids.new("org"))
        assert (found.state, found.size, found.signed_size, found.root) == (SealState.EMPTY, 0, 0, None)

    def test_nothing_signed_and_no_notary(self, superuser, organization_id):
        found = seal(organization_id)
        assert (found.state, found.size, found.signed_size, found.unsigned) == (SealState.MISSING, 3, 0, 3)
        assert found.is_notary_missing
        assert found.key_ids == []

    def test_a_notary_that_is_about_to_sign(self, superuser, organization_id):
        beat(superuser)
        assert seal(organization_id).state == SealState.PENDING

    def test_one_that_leaves_entries_waiting(self, superuser, organization_id):
        beat(superuser)
        append_long_ago(superuser, organization_id)
        found = seal(organization_id)
        assert found.state == SealState.BEHIND
        assert found.pulse.now - found.waiting_since > timedelta(minutes=59)

    def test_everything_signed(self, superuser, organization_id):
        beat(superuser)
        key = sign(superuser, organization_id, 3)
        found = seal(organization_id)
        assert (found.state, found.signed_size, found.unsigned) == (SealState.SEALED, 3, 0)
        assert found.key_ids == [key.id.hex()]
        assert (found.root, found.waiting_since) == (b"\x07" * 32, None)

    def test_what_is_signed_stays_so_without_a_notary(self, superuser, organization_id):
        sign(superuser, organization_id, 3)
        beat(superuser, ago=40)
        found = seal(organization_id)
        assert (found.state, found.is_notary_missing) == (SealState.SEALED, True)

    def test_signed_in_part(self, superuser, organization_id):
        beat(superuser)
        sign(superuser, organization_id, 2)
        found = seal(organization_id)
        assert (found.state, found.signed_size, found.unsigned) == (SealState.PENDING, 2, 1)

    def test_an_alarm_about_it_and_not_about_others(self, superuser, organization_id):
        other = ledgers.new(2)
        beat(superuser, alarms=[alarm(organization_id)])
        found = seal(organization_id)
        assert found.state == SealState.ALARM
        [only] = found.alarms
        assert (only.organization_id, only.index, only.kind) == (organization_id, 2, "altered")
        assert only.since == datetime(2026, 11, 21, 12, tzinfo=UTC)
        assert seal(other).alarms == []

    def test_it_takes_four_queries(self, superuser, organization_id, django_assert_max_num_queries):
        with tenancy.within(organization_id), django_assert_max_num_queries(4):
            sealing.seal(organization_id)


class TestPulse:
    def test_an_alarm_about_a_whole_ledger(self, superuser, organization_id):
        beat(superuser, alarms=[alarm(organization_id) | {"index": None}])
        [only] = seal(organization_id).alarms
        assert (only.index, only.place) == (None, None)

    def test_none_ever(self, superuser):
        found = notary_pulse.read()
        assert (found.status, found.beat_seconds, found.swept_seconds) == ("missing", None, None)

    def test_one_that_lives(self, superuser):
        beat(superuser)
        found = notary_pulse.read()
        assert found.status == "ok"
        assert found.beat_seconds < 5
        assert 4 <= found.swept_seconds < 10

    def test_an_alarm_outweighs_a_missing_one(self, superuser, organization_id):
        beat(superuser, ago=60, alarms=[alarm(organization_id)])
        assert (notary_pulse.read().status, notary_pulse.read().is_missing) == ("alarm", True)
