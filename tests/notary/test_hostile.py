"""What is done to a ledger so that the notary stops looking, dies, or signs what nobody could verify."""

import base64
import hashlib
import json
import os

import psycopg
import pytest
from django.utils import timezone

from audit import entry as entry_rules
from audit import note, tenancy
from audit.actors import WORKER
from audit.errors import ReopeningRefused
from audit.models import Checkpoint
from audit.notary.sweeping import HashSweep, verify_one
from audit.signatures import reopening
from tests import ledgers, notaries


@pytest.fixture
def notary(tmp_path):
    return notaries.new(tmp_path / "notary")


@pytest.fixture
def organization_id():
    return ledgers.new(4)


def newest(organization_id):
    with tenancy.within(organization_id):
        return Checkpoint.objects.of(organization_id).newest()


def verified(notary, organization_id):
    """Verify it by every rule, and return the alarm that stands then."""
    verify_one(organization_id, notary.rounds.alarms, lambda: False)
    return published(notary, organization_id)


def published(notary, organization_id):
    return {told["organization"]: told for told in notary.rounds.alarms.published()}.get(organization_id)


def alter(organization_id, epoch, index, sql):
    with ledgers.without_triggers() as superuser:
        superuser.execute(
            f"UPDATE {sql} WHERE organization_id = %s AND epoch = %s AND index = %s".encode(),
            [organization_id, epoch, index],
        )


def inserted(organization_id, leaf):
    """Put a last entry in, as the owner may who has the migrations' login."""
    with ledgers.superuser() as superuser:
        [(size, epoch)] = superuser.execute(
            "SELECT size, epoch FROM audit_head WHERE organization_id = %s", [organization_id]
        )
        superuser.execute(
            "INSERT INTO audit_entry VALUES (%s, %s, %s, %s, 'key.created', 'usr_alice', '', '', now())",
            [organization_id, epoch, size, leaf],
        )
        superuser.execute(
            "UPDATE audit_head SET size = size + 1, last_hash = sha256('\\x00'::bytea || %s), last_at = now()"
            " WHERE organization_id = %s",
            [leaf, organization_id],
        )


class TestAnEarlierFault:
    """It stands for ever once the ledger went on in a new epoch, and must hide nothing there."""

    @pytest.fixture
    def went_on(self, notary, organization_id):
        notary.round()
        kept = newest(organization_id).note
        alter(organization_id, 1, 1, "audit_entry SET target = 'key_x'")
        reopening.reopen_ledger(organization_id, kept, actor=WORKER, reason="somebody was here")
        ledgers.append(organization_id, 2)
        notary.round()
        assert verified(notary, organization_id)["epoch"] == 1
        return organization_id

    @pytest.mark.parametrize(
        ("sql", "fault"),
        [
            ("audit_entry SET actor = 'usr_bob'", "altered"),
            ("audit_entry SET at = at - interval '1 day'", "altered"),
            ("audit_sealed SET value = 'Bob'", "altered"),
        ],
    )
    def test_what_is_done_to_the_new_epoch_is_found(self, notary, went_on, sql, fault):
        alter(went_on, 2, 2, sql)
        told = verified(notary, went_on)
        assert (told["epoch"], told["index"], told["kind"]) == (2, 2, fault)
        ledgers.append(went_on)
        assert notary.round() == 0

    def test_bytes_that_are_changed_in_it_are_named_at_once(self, notary, went_on):
        alter(went_on, 2, 1, "audit_entry SET leaf = set_byte(leaf, 40, get_byte(leaf, 40) # 1)")
        HashSweep(notary.rounds, notary.rounds.alarms, lambda: False).run()
        told = published(notary, went_on)
        assert (told["epoch"], told["index"]) == (2, 1)

    def test_nor_does_a_reopening_that_a_thief_wrote(self, notary, organization_id):
        """With the application's login alone; the bytes can't be taken out again."""
        notary.round()
        right = newest(organization_id).note
        signed_by_nobody = right[:-20] + "A" * 16 + "AA=\n"
        with pytest.raises(ReopeningRefused):
            reopening.reopen_ledger(organization_id, signed_by_nobody, actor=WORKER, reason="x")
        reopen_unchecked(organization_id, signed_by_nobody)
        assert verified(notary, organization_id)["epoch"] == 2
        reopening.reopen_ledger(organization_id, right, actor=WORKER, reason="put right")
        ledgers.append(organization_id, 2)
        assert notary.round() == 1
        assert verified(notary, organization_id)["epoch"] == 2
        alter(organization_id, 3, 1, "audit_entry SET actor = 'usr_bob'")
        told = verified(notary, organization_id)
        assert (told["epoch"], told["index"]) == (3, 1)


class TestLedgersThatCannotBeRead:
    def test_what_the_login_may_not_see_any_more_is_an_alarm(self, notary, organization_id):
        with ledgers.superuser() as superuser:
            superuser.execute("REVOKE SELECT ON audit_sealed FROM keystead_notary")
            try:
                told = verified(notary, organization_id)
            finally:
                superuser.execute("GRANT SELECT ON audit_sealed TO keystead_notary")
        assert (told["kind"], told["index"]) == ("unreadable", None)
        assert "audit_sealed" in told["what"]
        assert verified(notary, organization_id) is None


class TestEntriesWhereNoneCanBe:
    """At the ends of what the columns hold: a page that can't be read would end the sweep for everybody."""

    @pytest.mark.parametrize("place", ["index = 9223372036854775807 - index", "epoch = 32767"])
    def test_the_others_are_looked_at(self, notary, organization_id, place):
        others = [ledgers.new(3), ledgers.new(3)]
        notary.round()
        with ledgers.without_triggers() as superuser:
            superuser.execute(
                f"UPDATE audit_entry SET {place} WHERE organization_id = %s".encode(), [organization_id]
            )
        for other in others:
            alter(other, 1, 1, "audit_entry SET leaf = set_byte(leaf, 40, get_byte(leaf, 40) # 1)")
        HashSweep(notary.rounds, notary.rounds.alarms, lambda: False).run()
        assert published(notary, organization_id)
        assert [published(notary, other)["index"] for other in others] == [1, 1]


class TestBytesThatAreNoEntry:
    """Not one is signed: no verifier could get past it, and nobody could take it out again."""

    @pytest.mark.parametrize(
        "change",
        [
            lambda _: b"[" * 16_384,
            lambda leaf: leaf.replace(b'"data":{', b'"data":{"a":1.5,'),
            lambda leaf: leaf.replace(b'"v":1', b'"v":2'),
            lambda leaf: leaf.replace(b'"act":', b' "act":'),
            lambda leaf: leaf.replace(b"key.created", b"Key"),
        ],
    )
    def test_the_others_go_on(self, notary, organization_id, change):
        notary.round()
        with ledgers.superuser() as superuser:
            [(log, size, last, at)] = superuser.execute(
                "SELECT origin, size, last_hash, now() FROM audit_head WHERE organization_id = %s",
                [organization_id],
            )
        leaf = entry_rules.build(
            log=log, i=size, t=at, prev=last, act="key.created", actor="usr_alice", data={"target": ""}
        )
        inserted(organization_id, change(leaf))
        other = ledgers.new(2)
        assert notary.round() == 1
        assert newest(other).size == 2
        assert newest(organization_id).size == 4
        told = {told["organization"]: told for told in notary.rounds.alarms.published()}[organization_id]
        assert (told["kind"], told["index"]) == ("altered", 4)


class TestKeysThatAThiefAnnounces:
    """With the application's login alone: nothing that keeps the log's notes and bundles from being read."""

    def test_two_of_one_id(self, organization_id):
        log = f"ledger.example/ledger/{organization_id}"
        first, second = same_id(log)
        announce(organization_id, [first])
        for keys in ([second], [first, second]):
            with pytest.raises(psycopg.errors.CheckViolation, match="of that id"):
                announce(organization_id, keys)
        announce(organization_id, [first])

    def test_more_than_a_reader_takes(self, organization_id):
        keys = [number.to_bytes(32, "big") for number in range(50)]
        announce(organization_id, keys[:49])
        with pytest.raises(psycopg.errors.CheckViolation, match="fifty keys"):
            announce(organization_id, keys[49:])


def same_id(log):
    """Return two public keys whose ids are the same: 65,000 hashes find them."""
    seen = {}
    for number in range(1_000_000):
        public = number.to_bytes(32, "big")
        other = seen.setdefault(note.key_id(log, public), public)
        if other != public:
            return other, public
    raise AssertionError


def as_app(organization_id):
    connection = psycopg.connect(os.environ["DATABASE_URL"])
    connection.execute("SELECT set_config('app.organization', %s, true)", [organization_id])
    return connection


def announce(organization_id, keys):
    with as_app(organization_id) as connection:
        [(log, index, prev, at, _)] = connection.execute(
            "SELECT log, next_index, prev, at, behind FROM ledger_begin(%s, '')", [organization_id]
        ).fetchall()
        leaves = []
        for place, public in enumerate(keys, start=index):
            vkey = note.VerifierKey(log, public).format()
            leaves.append(
                entry_rules.build(
                    log=log,
                    i=place,
                    t=at,
                    prev=prev,
                    act="ledger.key_added",
                    actor="sys_worker",
                    data={"vkey": vkey},
                )
            )
            prev = entry_rules.leaf_hash(leaves[-1])
        connection.execute(
            "SELECT ledger_append(%s, %s, %s)", [organization_id, leaves, json.dumps([[] for _ in leaves])]
        )


def reopen_unchecked(organization_id, checkpoint):
    """Open epoch 2 with whatever checkpoint, as who has stolen the application's login may."""
    log = f"ledger.example/ledger/{organization_id}/2"
    with as_app(organization_id) as connection:
        [(_, index, prev, at, _)] = connection.execute(
            "SELECT log, next_index, prev, at, behind FROM ledger_begin(%s, '')", [organization_id]
        ).fetchall()
        left = {"epoch": 1, "size": index, "last": base64.b64encode(prev).decode()}
        vkey = note.VerifierKey(log, hashlib.sha256(b"thief").digest()).format()
        leaf = entry_rules.build(
            log=log,
            i=0,
            t=max(at, timezone.now()),
            prev=entry_rules.genesis_prev(),
            act="ledger.reopened",
            actor="sys_command",
            data={"vkey": vkey, "left": left, "checkpoint": checkpoint},
        )
        connection.execute("SELECT ledger_reopen(%s, %s, '[]')", [organization_id, leaf])
