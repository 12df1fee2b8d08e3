"""Before it signs anything: its file, its keys, that it is alone; and what it does with a database that went back."""

import json
from datetime import timedelta

import pytest

from audit import entry as entry_rules
from audit import note
from audit.errors import NotaryRefused
from audit.notary import state
from audit.signatures import epochs
from audit.tree import EMPTY_ROOT
from tests import notaries


def beat(stage, ago):
    with stage.superuser() as superuser:
        superuser.execute(b"UPDATE audit_notary SET beat_at = now() - %s", [ago])


class TestFile:
    def test_a_lost_one_is_adopted_from_what_was_published(self, stage):
        organization_id = stage.new(3)
        stage.run_here(1)
        before = stage.point(organization_id)
        (stage.folder / state.NAME).unlink()
        beat(stage, timedelta(seconds=31))
        with pytest.raises(NotaryRefused, match="is gone"):
            stage.run_here(1)
        stage.adopt_here()
        assert stage.point(organization_id) == before
        stage.append(organization_id)
        stage.run_here(1)
        assert stage.signed(organization_id) == 4

    def test_an_older_one_is_refused(self, stage):
        organization_id = stage.new(3)
        stage.run_here(1)
        older = (stage.folder / state.NAME).read_bytes()
        stage.append(organization_id)
        stage.run_here(1)
        (stage.folder / state.NAME).write_bytes(older)
        with pytest.raises(NotaryRefused, match="is older than what was published"):
            stage.run_here(1)
        stage.adopt_here()
        assert stage.point(organization_id).size == 4

    @pytest.mark.parametrize("content", ["", "{}", "[]", '{"v": 2, "instance": "a", "logs": {}}', "{"])
    def test_one_that_is_none(self, stage, content):
        (stage.folder / state.NAME).write_text(content)
        with pytest.raises(NotaryRefused, match="is not what a notary writes"):
            stage.run_here(1)

    def test_a_checkpoint_that_nobody_signed_is_not_adopted(self, stage):
        organization_id = stage.new(3)
        stage.run_here(1)
        with stage.superuser() as superuser:
            superuser.execute(
                b"INSERT INTO audit_checkpoint SELECT organization_id, epoch, 9, sha256('x'), "
                b"replace(note, E'\\n3\\n', E'\\n9\\n'), signed_at, published_at FROM audit_checkpoint"
            )
        (stage.folder / state.NAME).unlink()
        beat(stage, timedelta(seconds=31))
        stage.adopt_here()
        assert stage.point(organization_id).size == 3


class TestAlone:
    def test_another_that_lives_is_not_replaced(self, stage, tmp_path):
        stage.run_here(1)
        own = state.load(stage.folder)
        state.save(stage.folder, state.State("another", own.logs))
        for take_over in (False, True):
            with pytest.raises(NotaryRefused, match="another notary signs"):
                stage.run_here(1, take_over=take_over)
        beat(stage, timedelta(seconds=31))
        with pytest.raises(NotaryRefused, match="another notary signs"):
            stage.run_here(1)
        stage.run_here(1, take_over=True)
        assert stage.pulse()["instance"] == "another"

    def test_one_in_a_folder(self, stage):
        with state.locked(stage.folder), pytest.raises(NotaryRefused, match="another notary works with"):
            stage.run_here(1)

    def test_a_key_that_is_not_the_published_one(self, stage, settings):
        (stage.folder / "private.pem").unlink()
        with pytest.raises(NotaryRefused, match=r"there is no private\.pem"):
            stage.run_here(1)


class TestDatabaseThatWentBack:
    def test_it_signs_nothing_until_the_same_entries_are_back(self, stage):
        organization_id = stage.new(5)
        stage.run_here(1)
        signed = stage.point(organization_id)
        kept = stage.kept(organization_id)
        stage.roll_back(organization_id, 2)
        stage.run_here(1)
        alarm = stage.alarms()[organization_id]
        assert (alarm["kind"], alarm["index"], alarm["epoch"]) == ("rolled_back", 2, 1)
        # What was signed is published again: it is the evidence.
        assert stage.signed(organization_id) == 5
        stage.put_back(kept)
        stage.append(organization_id)
        # Another process: what the one before found stands until everything was looked at.
        stage.run_here(1)
        assert (stage.alarms()[organization_id], stage.signed(organization_id)) == (alarm, 5)
        stage.run_here(2, watched=True)
        assert stage.alarms() == {}
        assert (signed.size, stage.signed(organization_id)) == (5, 6)

    @pytest.mark.parametrize("size", [3, 5, 8])
    def test_another_history_is_never_signed(self, stage, size):
        organization_id = stage.new(5)
        stage.run_here(1)
        signed = stage.point(organization_id)
        stage.roll_back(organization_id, 2)
        stage.append(organization_id, size - 2, word="other")
        for _ in range(2):
            stage.run_here(2, watched=True)
            assert stage.point(organization_id) == signed
            assert stage.signed(organization_id) == 5
            assert stage.alarms()[organization_id]["kind"] == ("rolled_back" if size < 5 else "rewritten")


class TestNewEpoch:
    def reopen(self, stage, organization_id, carried):
        """Do by hand what the command does: the head in the next epoch, and its first entry."""
        origin = f"ledger.example/ledger/{organization_id}/2"
        [(at, size, last)] = stage.rows(
            "SELECT last_at, size, last_hash FROM audit_head WHERE organization_id = %s", organization_id
        )
        left = epochs.Left(epoch=1, size=size, last=last).data()
        vkey = note.VerifierKey.of(origin, notaries.KEY).format()
        leaf = entry_rules.build(
            log=origin,
            i=0,
            t=at,
            prev=EMPTY_ROOT,
            act="ledger.reopened",
            actor="sys_portal",
            data={"checkpoint": carried, "left": left, "target": origin, "vkey": vkey},
        )
        with stage.without_triggers() as superuser:
            superuser.execute(
                b"INSERT INTO audit_entry VALUES (%s, 2, 0, %s, 'ledger.reopened', 'sys_portal', %s, '', %s)",
                [organization_id, leaf, origin, at],
            )
            superuser.execute(
                b"UPDATE audit_head SET origin = %s, epoch = 2, size = 1, last_hash = %s WHERE organization_id = %s",
                [origin, entry_rules.leaf_hash(leaf), organization_id],
            )

    def note_of(self, stage, organization_id, size):
        sql = "SELECT note FROM audit_checkpoint WHERE organization_id = %s AND epoch = 1 AND size = %s"
        return stage.rows(sql, organization_id, size)[0][0]

    def test_the_way_on_after_a_restored_backup(self, stage):
        organization_id = stage.new(5)
        stage.run_here(1)
        stage.roll_back(organization_id, 2)
        stage.run_here(1)
        assert stage.alarms()[organization_id]["kind"] == "rolled_back"
        self.reopen(stage, organization_id, self.note_of(stage, organization_id, 5))
        stage.run_here(3, watched=True)
        assert stage.alarms() == {}
        logs = json.loads((stage.folder / state.NAME).read_text())["logs"]
        old, new = f"ledger.example/ledger/{organization_id}", f"ledger.example/ledger/{organization_id}/2"
        assert (logs[old]["size"], logs[old]["kept"]["size"]) == (5, 2)
        assert (logs[new]["size"], logs[new]["epoch"]) == (1, 2)
        [(text,)] = stage.rows(
            "SELECT note FROM audit_checkpoint WHERE organization_id = %s AND epoch = 2", organization_id
        )
        assert note.open_checkpoint(text, new, [note.VerifierKey.of(new, notaries.KEY)]).size == 1

    def test_one_that_carries_less_than_was_signed_is_not_accepted(self, stage):
        organization_id = stage.new(3)
        stage.run_here(1)
        stage.append(organization_id, 2)
        stage.run_here(1)
        self.reopen(stage, organization_id, self.note_of(stage, organization_id, 3))
        stage.run_here(1)
        assert stage.alarms()[organization_id]["kind"] == "reopened"
        assert stage.rows("SELECT count(*) FROM audit_checkpoint WHERE epoch = 2") == [(0,)]
