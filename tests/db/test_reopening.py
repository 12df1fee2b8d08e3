"""A ledger that goes on in a new epoch, after its database was set back: through the command, and not otherwise."""

import base64
import io
import json
import os
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.core.management import CommandError, call_command

from audit import entry as entry_rules
from audit import ledger, note, tenancy
from audit.actors import Actor
from audit.errors import LedgerUnavailable, ReopeningRefused
from audit.models import Checkpoint, Entry, Sealed
from audit.notary import state
from audit.signatures import reopening, verifier_keys
from audit.webhooks import expansion
from orgs import ids
from tests import ledgers, notaries

STRANGER = Ed25519PrivateKey.from_private_bytes(sha256(b"TEST ONLY ledger log key 9").digest())
OPERATOR = Actor(id="sys_command", name="Olga Operator")
refused = pytest.raises(psycopg.errors.CheckViolation)


@pytest.fixture
def notary(tmp_path):
    return notaries.new(tmp_path / "notary")


@pytest.fixture
def organization_id():
    return ledgers.new(5)


@pytest.fixture(autouse=True)
def _no_pulse():
    with ledgers.superuser() as superuser:
        superuser.execute("DELETE FROM audit_notary")
        yield
        superuser.execute("DELETE FROM audit_notary")


def log_of(organization_id, epoch=1):
    return entry_rules.origin("ledger.example", organization_id, epoch)


def signed(organization_id, size=5, *, epoch=1, key=notaries.KEY, host="ledger.example"):
    log = entry_rules.origin(host, organization_id, epoch)
    return note.sign(note.checkpoint_text(log, size, b"\x09" * 32), log, key)


def set_back(organization_id, size):
    """Make the ledger's tables what they were when it had `size` entries, as a restored backup does."""
    with ledgers.without_triggers() as superuser:
        for table in ("audit_sealed", "audit_entry"):
            superuser.execute(
                f"DELETE FROM {table} WHERE organization_id = %s AND index >= %s".encode(),
                [organization_id, size],
            )
        superuser.execute("ALTER TABLE audit_checkpoint DISABLE TRIGGER audit_checkpoint_keep")
        superuser.execute(
            "DELETE FROM audit_checkpoint WHERE organization_id = %s AND size > %s", [organization_id, size]
        )
        superuser.execute(
            "UPDATE audit_head h SET size = %s, last_at = e.at, last_hash = sha256('\\x00'::bytea || e.leaf)"
            " FROM audit_entry e WHERE (e.organization_id, e.index) = (h.organization_id, %s)"
            " AND h.organization_id = %s",
            [size, size - 1, organization_id],
        )
        superuser.execute("ALTER TABLE audit_checkpoint ENABLE ALWAYS TRIGGER audit_checkpoint_keep")


def reopen(notary, *flags, **options):
    out = io.StringIO()
    options = {"folder": notary.folder, "reason": "restored from last night's backup"} | options
    given = [f"--{name}={value}" for name, value in options.items()]
    call_command("ledger", "reopen", *(f"--{flag}" for flag in flags), *given, stdout=out)
    return out.getvalue()


def verify(organization_id):
    out = io.StringIO()
    call_command("ledger", "verify", organization=organization_id, stdout=out)
    return out.getvalue()


def entries(organization_id, epoch):
    with tenancy.within(organization_id):
        return list(Entry.objects.of(organization_id).filter(epoch=epoch).oldest_first())


def newest(organization_id):
    with tenancy.within(organization_id):
        return Checkpoint.objects.of(organization_id).newest()


class TestAfterARestoredBackup:
    def test_the_way_on(self, notary, organization_id):
        notary.round()
        before = newest(organization_id).note
        set_back(organization_id, 3)
        ledgers.append(organization_id, 4, first=10)
        notary.round()
        assert newest(organization_id) is None
        said = reopen(notary, organization=organization_id)
        assert f"goes on as {log_of(organization_id, 2)}: 7 entries were left, 5 were signed." in said
        [first] = entries(organization_id, 2)
        told = first.parsed()
        assert told.act == "ledger.reopened"
        assert note.text_of(told.data["checkpoint"]) == note.text_of(before)
        assert told.data["vkey"] == ledger.verifier_key(log_of(organization_id, 2))
        assert told.data["left"] == {
            "epoch": 1,
            "size": 7,
            "last": base64.b64encode(entries(organization_id, 1)[-1].leaf_hash()).decode(),
        }
        assert verify(organization_id).startswith(f"{organization_id}  epoch 2  size 1 ")

    def test_the_notary_goes_on_and_signs_nothing_of_the_old(self, notary, organization_id):
        notary.round()
        set_back(organization_id, 3)
        ledgers.append(organization_id, 4, first=10)
        reopen(notary, organization=organization_id)
        ledgers.append(organization_id, 2, first=20)
        assert notary.round() >= 1
        found = newest(organization_id)
        assert (found.epoch, found.size) == (2, 3)
        key = note.VerifierKey.of(log_of(organization_id, 2), notaries.KEY)
        assert note.open_checkpoint(found.note, log_of(organization_id, 2), [key]).size == 3
        with tenancy.within(organization_id):
            assert not Checkpoint.objects.of(organization_id).filter(epoch=1, size__gt=5).exists()
            assert verifier_keys.published(organization_id, 2) == [key.format()]

    def test_the_reason_and_who_are_sealed(self, notary, organization_id):
        notary.round()
        set_back(organization_id, 3)
        reopen(notary, organization=organization_id)
        [first] = entries(organization_id, 2)
        assert b"backup" not in bytes(first.leaf)
        with tenancy.within(organization_id):
            assert Sealed.objects.get(epoch=2, field="note").value == "restored from last night's backup"

    def test_one_more_restore_from_before_the_reopening(self, notary, organization_id):
        """The file knows epoch 2, the database is back in epoch 1: the next is 3, so that 2 has one root a size."""
        notary.round()
        set_back(organization_id, 4)
        reopen(notary, organization=organization_id)
        ledgers.append(organization_id, 2, first=20)
        notary.round()
        with ledgers.without_triggers() as superuser:
            for table in ("audit_sealed", "audit_entry"):
                superuser.execute(
                    f"DELETE FROM {table} WHERE organization_id = %s AND epoch = 2".encode(),
                    [organization_id],
                )
            superuser.execute(
                "UPDATE audit_head SET epoch = 1, origin = %s WHERE organization_id = %s",
                [log_of(organization_id), organization_id],
            )
        set_back(organization_id, 3)
        ledgers.append(organization_id, 9, first=40)
        # Sizes that epoch 1 had before, with other roots: none of them is signed, though a newer epoch is known.
        assert notary.round() == 0
        assert notaries.new(notary.folder).round() == 0
        with tenancy.within(organization_id):
            assert not Checkpoint.objects.of(organization_id).filter(epoch=1).exists()
        assert log_of(organization_id, 3) in reopen(notary, organization=organization_id)
        assert verify(organization_id).startswith(f"{organization_id}  epoch 3  size 1 ")
        notary.round()
        assert (newest(organization_id).epoch, newest(organization_id).size) == (3, 1)

    def test_once_is_enough(self, notary, organization_id):
        notary.round()
        set_back(organization_id, 4)
        reopen(notary, organization=organization_id)
        with pytest.raises(CommandError, match="was reopened already"):
            reopen(notary, organization=organization_id)

    def test_all_that_can_not_go_on_and_no_other(self, notary, organization_id):
        other, well = ledgers.new(4), ledgers.new(4)
        notary.round()
        for each in (organization_id, other):
            set_back(each, 2)
        # Grown past what was signed since: other entries stand there.
        ledgers.append(other, 8, first=30)
        reopen(notary, "all")
        assert [len(entries(each, 2)) for each in (organization_id, other, well)] == [1, 1, 0]

    def test_what_is_sent_and_mailed_goes_on(self, notary, organization_id):
        notary.round()
        set_back(organization_id, 3)
        reopen(notary, organization=organization_id)
        with tenancy.within(organization_id):
            assert expansion.end_of_log(organization_id) == (2, 0)
            following = Entry.objects.of(organization_id).after(1, 2).oldest_first()
            assert [entry.place for entry in following] == [(2, 0)]


class TestWhereItIsRefused:
    def test_nothing_is_wrong(self, notary, organization_id):
        notary.round()
        with pytest.raises(CommandError, match="Nothing is wrong there"):
            reopen(notary, organization=organization_id)
        assert entries(organization_id, 2) == []
        reopen(notary, "force", organization=organization_id)
        assert len(entries(organization_id, 2)) == 1
        assert verify(organization_id)

    def test_an_alarm_is_reason_enough(self, notary, organization_id):
        notary.round()
        alarm = {"organization": organization_id, "epoch": 1, "index": 2, "kind": "rewritten", "what": "x"}
        with ledgers.superuser() as superuser:
            superuser.execute(
                "INSERT INTO audit_notary (instance, started_at, beat_at, alarms) VALUES ('a', now(), now(), %s)",
                [json.dumps([alarm])],
            )
        assert log_of(organization_id, 2) in reopen(notary, organization=organization_id)

    def test_a_notary_that_runs(self, notary, organization_id):
        notary.round()
        with state.locked(notary.folder), pytest.raises(CommandError, match="another notary works"):
            reopen(notary, "force", organization=organization_id)

    def test_a_file_that_is_not_the_notarys_newest(self, notary, organization_id, tmp_path):
        notary.round()
        kept = (notary.folder / "state.json").read_bytes()
        ledgers.append(organization_id, 2, first=20)
        notary.round()
        (notary.folder / "state.json").write_bytes(kept)
        with pytest.raises(CommandError, match="not its newest file"):
            reopen(notary, "force", organization=organization_id)

    def test_a_ledger_that_was_never_signed_or_is_none(self, notary, organization_id):
        with pytest.raises(CommandError, match="does not know the ledger"):
            reopen(notary, "force", organization=organization_id)
        with pytest.raises(CommandError, match="There is no ledger"):
            reopen(notary, "force", organization=ids.new("org"))

    @pytest.mark.parametrize(
        "text",
        [
            lambda org: signed(org, key=STRANGER),
            lambda _: signed(ids.new("org")),
            lambda org: signed(org, host="other.example"),
            lambda org: signed(org).replace("\n5\n", "\n6\n"),
            lambda org: signed(org).partition("\n\n")[0] + "\n",
            lambda _: "nonsense",
            lambda _: "",
        ],
    )
    def test_a_note_that_is_none_of_its_own(self, organization_id, text, tmp_path, notary):
        file = tmp_path / "note"
        file.write_text(text(organization_id))
        with pytest.raises(CommandError, match="Refused: "):
            reopen(notary, organization=organization_id, checkpoint=file)
        assert entries(organization_id, 2) == []

    def test_a_note_that_somebody_kept_will_do(self, organization_id, tmp_path, notary):
        file = tmp_path / "note"
        file.write_text(signed(organization_id, 9))
        assert "9 were signed" in reopen(notary, organization=organization_id, checkpoint=file)

    def test_that_too_while_a_notary_runs(self, organization_id, tmp_path, notary):
        (tmp_path / "note").write_text(signed(organization_id))
        with ledgers.superuser() as superuser:
            superuser.execute(
                "INSERT INTO audit_notary (instance, started_at, beat_at) VALUES ('a', now(), now())"
            )
        with pytest.raises(CommandError, match="stop it first"):
            reopen(notary, organization=organization_id, checkpoint=tmp_path / "note")

    def test_an_empty_ledgers_note(self, organization_id):
        log = log_of(organization_id)
        text = note.sign(note.checkpoint_text(log, 0, sha256(b"").digest()), log, notaries.KEY)
        with pytest.raises(ReopeningRefused, match="empty"):
            reopening.reopen_ledger(organization_id, text, actor=OPERATOR, reason="x")


class TestTheDatabase:
    """What a caller with the application's login may put there, and what nobody may."""

    def body(self, organization_id, **members):
        last = entries(organization_id, 1)[-1]
        log = log_of(organization_id, 2)
        data = {
            "vkey": note.VerifierKey.of(log, notaries.KEY).format(),
            "left": {"epoch": 1, "size": 5, "last": base64.b64encode(last.leaf_hash()).decode()},
            "checkpoint": signed(organization_id),
        }
        given = {
            "log": log,
            "i": 0,
            "t": datetime.now(UTC),
            "prev": entry_rules.genesis_prev(),
            "act": "ledger.reopened",
            "actor": "sys_command",
            "data": data | members.pop("data", {}),
        }
        return entry_rules.build(**given | members)

    def call(self, organization_id, leaf, openings="[]", works_in=None):
        with psycopg.connect(os.environ["DATABASE_URL"]) as app:
            app.execute("SELECT set_config('app.organization', %s, true)", [works_in or organization_id])
            app.execute("SELECT ledger_reopen(%s, %s, %s)", [organization_id, leaf, openings])

    def test_what_fits(self, organization_id):
        self.call(organization_id, self.body(organization_id))
        assert verify(organization_id).startswith(f"{organization_id}  epoch 2  size 1 ")

    @pytest.mark.parametrize(
        "members",
        [
            {"act": "key.created"},
            {"act": "ledger.opened"},
            {"i": 1},
            {"prev": b"\x01" * 32},
            {"t": datetime.now(UTC) - timedelta(hours=1)},
            {"t": datetime.now(UTC) + timedelta(hours=1)},
            {"data": {"left": {"epoch": 1, "size": 4, "last": "x"}}},
            {"data": {"left": None}},
            {"data": {"vkey": None}},
            {"data": {"vkey": "x"}},
            {"data": {"checkpoint": None}},
            {"data": {"checkpoint": "x"}},
            {"sealed": {"note": "A" * 43 + "="}},
        ],
    )
    def test_what_does_not(self, organization_id, members):
        with refused:
            self.call(organization_id, self.body(organization_id, **members))
        assert entries(organization_id, 2) == []

    @pytest.mark.parametrize(("epoch", "of"), [(1, 0), (2, 2), (2, 3)])
    def test_an_epoch_that_is_no_newer(self, organization_id, epoch, of):
        log = log_of(organization_id, epoch)
        data = {"vkey": note.VerifierKey.of(log, notaries.KEY).format()}
        if of:
            data["checkpoint"] = signed(organization_id, epoch=of)
        with refused:
            self.call(organization_id, self.body(organization_id, log=log, data=data))

    @pytest.mark.parametrize("log", ["other.example/ledger/{}/2", "ledger.example/ledger/{}x/2"])
    def test_another_log(self, organization_id, log):
        log = log.format(organization_id)
        data = {"vkey": note.VerifierKey.of(log, notaries.KEY).format()}
        with refused:
            self.call(organization_id, self.body(organization_id, log=log, data=data))

    def test_a_strangers_ledger(self, organization_id):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            self.call(organization_id, self.body(organization_id), works_in=ids.new("org"))

    def test_one_that_was_never_opened(self):
        organization_id = ids.new("org")
        leaf = self.body(ledgers.new(5))
        with pytest.raises(psycopg.errors.NoDataFound):
            self.call(organization_id, leaf)

    def test_it_is_no_ordinary_entry(self, organization_id):
        vkey = ledger.verifier_key(log_of(organization_id))
        with (
            pytest.raises(LedgerUnavailable, match="does not follow the head"),
            tenancy.within(organization_id),
            ledger.recording(organization_id, OPERATOR) as entry,
        ):
            entry("ledger.reopened", target="x", data={"vkey": vkey})

    @pytest.mark.parametrize("act", ["ledger.key_added", "ledger.key_retired"])
    @pytest.mark.parametrize("vkey", [None, "x", ledger.verifier_key("ledger.example/ledger/org_other")])
    def test_a_key_of_another_log_is_never_announced(self, organization_id, act, vkey):
        with (
            pytest.raises(LedgerUnavailable, match="does not follow the head"),
            tenancy.within(organization_id),
            ledger.recording(organization_id, OPERATOR) as entry,
        ):
            entry(act, target="x", data={"vkey": vkey})

    @pytest.mark.parametrize(
        "change",
        [
            "epoch = 2, size = 1, origin = origin || '/2'",
            "epoch = 2, size = 1",
            "epoch = 2",
            "epoch = 2, size = size + 1",
            "size = 1",
        ],
    )
    def test_the_owner_moves_no_head_by_itself(self, organization_id, change):
        with (
            psycopg.connect(os.environ["DATABASE_MIGRATE_URL"]) as owner,
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="only grows"),
        ):
            owner.execute(
                f"UPDATE audit_head SET {change} WHERE organization_id = %s".encode(), [organization_id]
            )

    def test_nor_with_an_entry_that_says_otherwise(self, organization_id):
        """Who may insert into the table still can't leave out what was there."""
        leaf = self.body(organization_id, data={"left": {"epoch": 1, "size": 2, "last": "x"}})
        with psycopg.connect(os.environ["DATABASE_MIGRATE_URL"]) as owner:
            owner.execute(
                "INSERT INTO audit_entry VALUES (%s, 2, 0, %s, 'ledger.reopened', 'sys_command', '', '', now())",
                [organization_id, leaf],
            )
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="only grows"):
                owner.execute(
                    "UPDATE audit_head SET epoch = 2, size = 1, origin = origin || '/2',"
                    " last_hash = sha256('\\x00'::bytea || %s), last_at = now() WHERE organization_id = %s",
                    [leaf, organization_id],
                )
            owner.rollback()
