"""What a ledger says of itself: keys that come and go, and each day how much of it is signed."""

import json
import threading
from datetime import timedelta
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils import timezone

from audit import ledger, note, tenancy
from audit.models import Entry
from audit.signatures import keeping, verifier_keys
from audit.tasks import keeping as tasks
from audit.webhooks import body
from orgs import ids
from tests import ledgers

OLD = Ed25519PrivateKey.from_private_bytes(sha256(b"TEST ONLY ledger log key 1").digest())
NEW = Ed25519PrivateKey.from_private_bytes(sha256(b"TEST ONLY ledger log key 2").digest())
NEWEST = Ed25519PrivateKey.from_private_bytes(sha256(b"TEST ONLY ledger log key 3").digest())
BEFORE, AFTER = timedelta(days=89, hours=23), timedelta(days=90, hours=1)


def pem(*keys):
    return "".join(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        for key in keys
    )


@pytest.fixture
def configured(settings):
    """Set the deployment's public keys, oldest first."""

    def configure(*keys):
        settings.LEDGER_PUBLIC_KEY = pem(*keys)
        ledger.public_keys.cache_clear()

    yield configure
    ledger.public_keys.cache_clear()


@pytest.fixture
def _forget():
    yield
    ledger.public_keys.cache_clear()


@pytest.fixture
def organization_id():
    return ledgers.new(3)


def log_of(organization_id):
    return f"ledger.example/ledger/{organization_id}"


def vkey(organization_id, key):
    return note.VerifierKey.of(log_of(organization_id), key).format()


def said(organization_id):
    with tenancy.within(organization_id):
        entries = Entry.objects.filter(act__startswith="ledger.").oldest_first()
        return [(entry.act, entry.parsed().data) for entry in entries][1:]


def signing(organization_id):
    with tenancy.within(organization_id):
        return verifier_keys.signing(organization_id, 1)


def sign(organization_id, size, *keys):
    name, root = log_of(organization_id), sha256(str(size).encode()).digest()
    text = note.sign(note.checkpoint_text(name, size, root), name, *(keys or [OLD]))
    with ledgers.superuser() as superuser:
        superuser.execute(
            "INSERT INTO audit_checkpoint VALUES (%s, 1, %s, %s, %s, now(), now())",
            [organization_id, size, root, text],
        )
    return text


def keep(organization_id, after=timedelta(0)):
    return keeping.keep_keys(organization_id, timezone.now() + after)


def record(organization_id, days=0):
    return keeping.record_checkpoint(organization_id, timezone.now() + timedelta(days=days))


def together(work, *arguments):
    """Do the same in eight threads at once; return what each did."""
    done, barrier = [], threading.Barrier(8)

    def one():
        try:
            barrier.wait()
            done.append(work(*arguments))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


class TestPublicKeys:
    def test_several_oldest_first(self, configured):
        configured(OLD, NEW)
        assert ledger.public_keys() == (
            OLD.public_key().public_bytes_raw(),
            NEW.public_key().public_bytes_raw(),
        )
        assert ledger.public_key() == NEW.public_key().public_bytes_raw()

    @pytest.mark.usefixtures("_forget")
    def test_one_twice_or_no_key_among_them(self, settings):
        bad = pem(OLD).replace("MCow", "MCox")
        for text in (pem(OLD, NEW, OLD), pem(OLD) + bad):
            settings.LEDGER_PUBLIC_KEY = text
            ledger.public_keys.cache_clear()
            with pytest.raises(ImproperlyConfigured, match="LEDGER_PUBLIC_KEY"):
                ledger.public_keys()

    def test_a_new_ledger_opens_with_the_newest(self, configured):
        configured(OLD, NEW)
        organization_id = ledgers.new(2)
        assert signing(organization_id) == [vkey(organization_id, NEW)]
        assert keep(organization_id, AFTER) == []


class TestKeys:
    def test_nothing_while_there_is_one(self, organization_id):
        assert keep(organization_id, AFTER) == []
        assert said(organization_id) == []

    def test_a_newer_one_is_announced_once(self, organization_id, configured):
        configured(OLD, NEW)
        assert keep(organization_id) == ["ledger.key_added"]
        assert keep(organization_id, BEFORE) == []
        [(act, data)] = said(organization_id)
        assert act == "ledger.key_added"
        assert data == {"target": log_of(organization_id), "vkey": vkey(organization_id, NEW)}
        assert signing(organization_id) == [vkey(organization_id, OLD), vkey(organization_id, NEW)]

    def test_the_older_is_retired_after_90_days(self, organization_id, configured):
        configured(OLD, NEW)
        keep(organization_id)
        sign(organization_id, 4, OLD, NEW)
        assert keep(organization_id, AFTER) == ["ledger.key_retired"]
        assert said(organization_id)[-1][1]["vkey"] == vkey(organization_id, OLD)
        assert keep(organization_id, AFTER) == []
        assert signing(organization_id) == [vkey(organization_id, NEW)]

    def test_none_is_retired_for_one_that_has_not_signed(self, organization_id, configured):
        configured(OLD, NEW)
        keep(organization_id)
        assert keep(organization_id, AFTER) == []
        sign(organization_id, 4, OLD)
        assert keep(organization_id, AFTER) == []

    def test_settings_that_are_older_than_the_ledger(self, organization_id, configured):
        configured(OLD, NEW)
        keep(organization_id)
        configured(OLD)
        assert keep(organization_id, AFTER) == []

    def test_the_old_block_may_go_from_the_settings(self, organization_id, configured):
        configured(OLD, NEW)
        keep(organization_id)
        sign(organization_id, 4, OLD, NEW)
        configured(NEW)
        assert keep(organization_id, AFTER) == ["ledger.key_retired"]

    def test_a_third(self, organization_id, configured):
        configured(OLD, NEW)
        keep(organization_id)
        configured(OLD, NEW, NEWEST)
        assert keep(organization_id) == ["ledger.key_added"]
        assert len(signing(organization_id)) == 3

    def test_eight_workers_at_once(self, organization_id, configured):
        configured(OLD, NEW)
        done = together(keep, organization_id)
        assert sorted(map(len, done)) == [0] * 7 + [1]
        assert len(said(organization_id)) == 1

    def test_the_job_goes_through_every_ledger(self, organization_id, configured):
        other = ledgers.new(2)
        configured(OLD, NEW)
        tasks.keep_keys(0)
        assert [act for act, _ in said(organization_id)] == ["ledger.key_added"]
        assert [act for act, _ in said(other)] == ["ledger.key_added"]


class TestCheckpoint:
    def test_nothing_was_signed(self, organization_id):
        assert record(organization_id) == []

    def test_it_carries_the_note(self, organization_id):
        text = sign(organization_id, 3)
        assert record(organization_id) == ["ledger.checkpoint"]
        assert said(organization_id) == [
            ("ledger.checkpoint", {"target": log_of(organization_id), "size": 3, "checkpoint": text})
        ]

    def test_so_does_the_webhook(self, organization_id):
        text = sign(organization_id, 3, OLD, NEW, NEWEST)
        record(organization_id)
        with tenancy.within(organization_id):
            entry = Entry.objects.get(act="ledger.checkpoint").parsed()
        sent = body.of_entry(entry, {})
        assert f'"checkpoint":{json.dumps(text, ensure_ascii=False)}'.encode() in sent

    def test_once_a_day(self, organization_id):
        sign(organization_id, 3)
        record(organization_id)
        ledgers.append(organization_id)
        sign(organization_id, 5)
        assert record(organization_id) == []
        assert record(organization_id, days=1) == ["ledger.checkpoint"]

    def test_a_ledger_that_does_not_grow_says_nothing(self, organization_id):
        sign(organization_id, 3)
        record(organization_id)
        sign(organization_id, 4)
        assert record(organization_id, days=1) == []
        assert record(organization_id, days=400) == []

    def test_eight_workers_at_once(self, organization_id):
        sign(organization_id, 3)
        assert sorted(map(len, together(record, organization_id))) == [0] * 7 + [1]
        assert len(said(organization_id)) == 1

    def test_one_ledgers_trouble_is_not_the_others(self, organization_id, monkeypatch):
        other = ledgers.new(2)
        poisoned, well = sorted([organization_id, other])
        for each in (poisoned, well):
            sign(each, 2)
        work = keeping.record_checkpoint

        def failing(each, now):
            if each == poisoned:
                raise ValueError
            return work(each, now)

        monkeypatch.setattr(keeping, "record_checkpoint", failing)
        tasks.record_checkpoints(0)
        assert said(poisoned) == []
        assert len(said(well)) == 1


def test_only_what_has_a_ledger_is_visited(organization_id):
    found = keeping.organizations()
    assert organization_id in found
    assert ids.new("org") not in found
    assert found == sorted(set(found))
