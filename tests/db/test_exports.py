"""Exports as jobs: each made once, recorded with it, for a day; none with what was erased."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import timedelta
from hashlib import sha256

import pytest
from django.db import DatabaseError, connection, connections
from django.utils import timezone

from audit import ledger, services, tenancy
from audit.errors import ExportCapReached, ExportInvalid, ExportStateForbids
from audit.exports import apart, bundle, facts, making, tables
from audit.models import Export, ExportPart
from audit.services import exports as exporting
from tests import builders, bundles, cluster, exports, ledgers
from tests.db.test_bundle import erase

ERASED_WORDS = "personal data was erased"


def of_export(organization_id, export):
    return [e for e in builders.entries(organization_id) if e.data.get("target") == export.id]


def waits(export, *, now=False):
    """Return how many jobs for an export are queued."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM procrastinate_jobs WHERE task_name = %s AND args ->> 'export_id' = %s"
            " AND status = 'todo' AND (NOT %s OR scheduled_at IS NULL)",
            [exporting.MAKE, export.id, now],
        )
        return cursor.fetchone()[0]


def rows(export):
    return list(csv.DictReader(io.StringIO(exports.content(export).decode(), newline="")))


def lines(export):
    return [json.loads(line) for line in exports.content(export).splitlines()]


def made_and_removed(organization_id):
    asked = exports.request(organization_id)
    for _ in range(20):
        if not exports.make(asked).is_unfinished:
            break
    with tenancy.within(organization_id):
        services.remove_export(asked, actor=ledgers.ALICE)


class TestAsking:
    def test_queues_a_job_and_records_who_asked(self):
        organization_id = ledgers.new(3)
        asked = exports.request(
            organization_id, filters={"act": "key.*", "who": "Alice <alice@northline.example>"}
        )
        assert waits(asked) == 1
        [entry] = of_export(organization_id, asked)
        assert (entry.act, entry.actor) == ("export.requested", "usr_alice")
        assert entry.data["filters"] == {"act": "key.*"}
        assert "alice@" not in str(entry.data)
        assert set(entry.sealed) == {"name", "email", "ip", "user_agent", "filters"}

    def test_three_at_once_and_ten_in_all(self, monkeypatch):
        organization_id = ledgers.new(3)
        asked = [exports.request(organization_id) for _ in range(exporting.MOST_UNFINISHED)]
        with pytest.raises(ExportCapReached, match="being made"):
            exports.request(organization_id)
        for each in asked:
            exports.make(each)
        monkeypatch.setattr(exporting, "MOST_KEPT", 3)
        with pytest.raises(ExportCapReached, match="delete one"):
            exports.request(organization_id)
        exports.request(ledgers.new(2))

    def test_the_cap_holds_in_a_race(self):
        organization_id = ledgers.new(3)
        outcomes = []

        def ask():
            try:
                outcomes.append(exports.request(organization_id).id)
            except ExportCapReached:
                outcomes.append("")
            finally:
                connections.close_all()

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(map(bool, outcomes)) == exporting.MOST_UNFINISHED

    @pytest.mark.parametrize(
        ("note", "reason"),
        [
            ("nonsense", "no checkpoint that the notary signed"),
            ("x" * 5000, "longer than a checkpoint"),
        ],
    )
    def test_an_older_checkpoint_must_be_of_this_log(self, note, reason):
        organization_id = ledgers.new(3)
        bundles.sign(organization_id)
        with pytest.raises(ExportInvalid, match=reason):
            exports.request(organization_id, "bundle", old_note=note)

    def test_an_older_checkpoint_of_another_log_is_refused(self):
        organization_id, other = ledgers.new(3), ledgers.new(3)
        bundles.sign(organization_id)
        with pytest.raises(ExportInvalid, match="for this log"):
            exports.request(organization_id, "bundle", old_note=bundles.sign(other))

    def test_an_older_checkpoint_that_knows_more_is_told_of(self):
        organization_id = ledgers.new(4)
        note = bundles.sign(organization_id)
        with ledgers.superuser() as database:
            database.execute("ALTER TABLE audit_checkpoint DISABLE TRIGGER audit_checkpoint_keep")
            database.execute("DELETE FROM audit_checkpoint WHERE organization_id = %s", [organization_id])
            database.execute("ALTER TABLE audit_checkpoint ENABLE ALWAYS TRIGGER audit_checkpoint_keep")
        bundles.sign(organization_id, 2)
        with pytest.raises(ExportInvalid, match="covers 4 entries, the newest checkpoint 2"):
            exports.request(organization_id, "bundle", old_note=note)


class TestMaking:
    def test_a_bundle_is_what_its_entry_says(self):
        organization_id = ledgers.new(5)
        old = bundles.sign(organization_id, 2)
        bundles.sign(organization_id)
        made = exports.make(exports.request(organization_id, "bundle", old_note=old.replace("\n", "\r\n")))
        data = exports.content(made)
        assert bundles.read([data]).size == made.entries == 5
        assert "old-checkpoint" in bundles.read([data]).names
        entry = of_export(organization_id, made)[-1]
        assert (entry.act, entry.actor) == ("export.made", "usr_alice")
        assert entry.data["sha256"] == sha256(data).hexdigest() == made.sha256
        assert (entry.data["size"], entry.data["entries"], entry.data["checkpoint"]) == (len(data), 5, 5)
        assert made.is_ready
        assert timedelta(hours=23) < made.expires_at - timezone.now() <= timedelta(hours=24)

    def test_json_lines_are_the_log(self, monkeypatch):
        monkeypatch.setattr(tables, "PAGE", 2)
        organization_id = ledgers.new(6)
        made = exports.make(exports.request(organization_id))
        found = lines(made)
        stored = builders.entries(organization_id)
        # The request itself is the last of them; `export.made` came after.
        assert [line["index"] for line in found] == list(range(7)) == list(range(made.entries))
        assert [line["data"] for line in found] == [entry.data for entry in stored[:7]]
        assert found[1]["personal"]["email"] == "alice@northline.example"
        assert [made.done, made.total] == [7, 7]

    def test_csv_has_its_columns_and_nothing_runs(self):
        organization_id = ledgers.new(2)
        hostile = '=HYPERLINK("http://x")'
        with tenancy.within(organization_id), ledger.recording(organization_id, ledgers.ALICE) as entry:
            for start in "=+-@\t":
                entry("key.created", target=f"{start}cmd", sealed={"note": "x"})
        actor = ledgers.Actor(id="usr_mallory", name=hostile, user_agent="@SUM(1)", ip="-1+1")
        with tenancy.within(organization_id), ledger.recording(organization_id, actor) as entry:
            entry("key.created", target="key_last")
        made = exports.make(exports.request(organization_id, "csv"))
        found = rows(made)
        assert list(found[0]) == list(facts.COLUMNS)
        last = next(row for row in found if row["target"] == "key_last")
        assert (last["actor_name"], last["user_agent"], last["ip"]) == (f"'{hostile}", "'@SUM(1)", "'-1+1")
        assert not [cell for row in found for cell in row.values() if cell.startswith(tuple("=+-@\t\r"))]
        assert [row["target"] for row in found if row["target"].endswith("cmd")] == [
            f"'{start}cmd" for start in "=+-@\t"
        ]
        assert json.loads(found[2]["personal"]) == {"note": "x"}
        assert found[2]["actor_email"] == "alice@northline.example"

    def test_parts_of_a_mass_act_have_its_actor(self):
        organization_id = ledgers.new(2)
        with tenancy.within(organization_id), ledger.recording(organization_id, ledgers.ALICE) as entry:
            entry("breakglass.executed", target="inc_a")
            entry("key.revoked", target="key_a", part_of="inc_a")
        made = exports.make(exports.request(organization_id, "csv"))
        part = next(row for row in rows(made) if row["target"] == "key_a")
        assert part["actor_name"] == "Alice Larsen"

    def test_the_filters_of_the_log_narrow_it(self):
        organization_id = ledgers.new(6)
        made = exports.make(exports.request(organization_id, filters={"target": "key_2"}))
        assert [line["target"] for line in lines(made)] == ["key_2"]
        assert (made.entries, made.done, made.total) == (1, 7, 7)

    def test_none_matches(self):
        organization_id = ledgers.new(3)
        made = exports.make(exports.request(organization_id, "csv", filters={"target": "key_none"}))
        assert made.is_ready
        assert (rows(made), made.entries) == ([], 0)
        empty = exports.make(exports.request(organization_id, filters={"target": "key_none"}))
        assert (exports.content(empty), empty.size) == (b"", 0)

    @pytest.mark.parametrize(
        "filters",
        [
            {"act": "key.created' OR 1=1 --"},
            {"since": "yesterday"},
            {"who": "x" * 65},
        ],
    )
    def test_a_filter_that_is_none_exports_nothing(self, filters):
        """Not everything: that would be more than was asked for."""
        organization_id = ledgers.new(3)
        made = exports.make(exports.request(organization_id, filters=filters))
        assert made.state == "failed"
        assert "filters" in made.reason
        assert exports.content(made) == b""

    @pytest.mark.parametrize(
        "filters",
        [{"target": "' OR '1'='1"}, {"organization_id": "org_other"}, {"who": "%"}, {"request": "\\"}],
    )
    def test_a_filter_is_a_value_and_no_condition(self, filters):
        organization_id = ledgers.new(3)
        made = exports.make(exports.request(organization_id, filters=filters))
        everything = 4 if "organization_id" in filters else 0
        assert len(lines(made)) == everything
        assert all(
            line["data"].get("vkey", organization_id).find(organization_id) >= 0 for line in lines(made)
        )

    def test_of_others_nothing(self):
        own, other = ledgers.new(3), ledgers.new(3)
        made = exports.make(exports.request(own))
        assert len(lines(made)) == 4
        with tenancy.within(other):
            assert not Export.objects.filter(pk=made.pk).exists()
            assert not ExportPart.objects.filter(export=made.pk).exists()
            making.make(other, made.id)
        assert exports.fresh(made).is_ready

    def test_in_parts(self, monkeypatch):
        monkeypatch.setattr(making, "PART_BYTES", 1000)
        organization_id = ledgers.new(30)
        made = exports.make(exports.request(organization_id))
        with tenancy.within(organization_id):
            sizes = [len(p.piece) for p in ExportPart.objects.filter(export=made).order_by("number")]
        assert set(sizes[:-1]) == {1000}
        assert sum(sizes) == made.size == len(exports.content(made))
        assert len(lines(made)) == 31

    def test_more_than_may_be_kept_fails_with_words(self, monkeypatch):
        monkeypatch.setattr(making, "PART_BYTES", 1000)
        monkeypatch.setattr(exporting, "MOST_BYTES", 3000)
        organization_id = ledgers.new(30)
        made = exports.make(exports.request(organization_id))
        assert (made.state, made.size, exports.content(made)) == ("failed", 0, b"")
        assert "bigger than" in made.reason


class TestWaiting:
    def test_for_the_notary_and_then_it_goes_on(self):
        organization_id = ledgers.new(3)
        asked = exports.request(organization_id, "bundle")
        waiting = exports.make(asked)
        assert (waiting.state, waiting.attempts) == ("queued", 0)
        assert "notary" in waiting.reason
        bundles.sign(organization_id)
        assert exports.make(asked).is_ready

    def test_not_for_ever(self):
        organization_id = ledgers.new(3)
        asked = exports.request(organization_id, "bundle")
        with ledgers.superuser() as database:
            database.execute(
                "UPDATE audit_export SET created_at = now() - interval '1 hour' WHERE id = %s", [asked.id]
            )
        assert exports.make(asked).state == "failed"


class TestErasure:
    def test_takes_every_export_away(self):
        organization_id, other = ledgers.new(4), ledgers.new(4)
        made = exports.make(exports.request(organization_id))
        spared = exports.make(exports.request(other))
        erase(organization_id, [1])
        gone = exports.fresh(made)
        assert (gone.state, gone.sha256, gone.size, gone.asked_name) == ("failed", "", 0, "")
        assert ERASED_WORDS in gone.reason
        assert exports.content(made) == b""
        assert exports.content(spared)

    def test_what_is_being_made_is_made_again_without_it(self, monkeypatch):
        """The rows were read before the erasure and are handed over after it."""
        organization_id = ledgers.new(4)
        asked = exports.request(organization_id)
        original = making._Writer.end

        def late(writer, *arguments):
            monkeypatch.setattr(making._Writer, "end", original)
            assert b"alice@" in bytes(writer._rest)
            erase(organization_id, [1, 2, 3], ["email"])
            original(writer, *arguments)

        monkeypatch.setattr(making._Writer, "end", late)
        lost = exports.make(asked)
        assert (lost.state, exports.content(lost)) == ("queued", b"")
        assert waits(lost)
        made = exports.make(asked)
        assert made.is_ready
        assert [line["personal"]["email"] for line in lines(made)[1:4]] == [None] * 3

    def test_a_run_that_begins_while_it_commits_waits_for_it(self):
        """Its snapshot would be of before: it takes its claim on a row that the erasure has locked."""
        organization_id = ledgers.new(4)
        asked = exports.request(organization_id)
        done = threading.Event()

        def run():
            making.make(organization_id, asked.id)
            done.set()
            connections.close_all()

        running = threading.Thread(target=run)
        with tenancy.within(organization_id):
            with ledger.recording(organization_id, ledgers.ALICE) as entry:
                entry("ledger.erasure", target="usr_alice", data={"entries": [1], "fields": ["email"]})
            # Appended, and not committed.
            running.start()
            assert not done.wait(1.5)
        running.join(20)
        made = exports.fresh(asked)
        assert made.is_ready
        assert lines(made)[1]["personal"]["email"] is None

    def test_one_asked_for_while_it_commits_waits_for_it(self):
        organization_id = ledgers.new(4)
        asked = []

        def ask():
            asked.append(exports.request(organization_id))
            connections.close_all()

        asking = threading.Thread(target=ask)
        with tenancy.within(organization_id):
            with ledger.recording(organization_id, ledgers.ALICE) as entry:
                entry("ledger.erasure", target="usr_alice", data={"entries": [1], "fields": ["email"]})
            asking.start()
            time.sleep(1)
            assert not asked
        asking.join(20)
        assert lines(exports.make(asked[0]))[1]["personal"]["email"] is None

    def test_finishing_and_erasing_at_once_never_dead_lock(self):
        organization_id = ledgers.new(40)
        errors = []

        def repeat(act, times):
            try:
                for number in range(1, times):
                    act(number)
            except Exception as error:
                errors.append(error)
            finally:
                connections.close_all()

        threads = [
            threading.Thread(target=repeat, args=(lambda _: made_and_removed(organization_id), 8)),
            threading.Thread(target=repeat, args=(lambda number: erase(organization_id, [number]), 30)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert errors == []


class TestRuns:
    def test_two_at_once_make_one(self, monkeypatch):
        organization_id = ledgers.new(30)
        asked = exports.request(organization_id)
        monkeypatch.setattr(making, "PART_BYTES", 500)

        def run():
            making.make(organization_id, asked.id)
            connections.close_all()

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        made = exports.fresh(asked)
        assert (made.is_ready, made.attempts) == (True, 1)
        assert sha256(exports.content(made)).hexdigest() == made.sha256
        assert [e.act for e in of_export(organization_id, made)] == ["export.requested", "export.made"]

    def test_again_when_ready_changes_nothing(self):
        organization_id = ledgers.new(3)
        made = exports.make(exports.request(organization_id))
        assert exports.make(made).ready_at == made.ready_at
        assert len(of_export(organization_id, made)) == 2

    def test_while_another_process_is_at_it_nothing_happens(self):
        organization_id = ledgers.new(3)
        asked = exports.request(organization_id)
        with apart.lock(asked.id) as is_ours:
            assert is_ours
            assert exports.make(asked).state == "queued"
        assert exports.make(asked).is_ready

    def test_a_run_that_lost_its_claim_writes_nothing_more(self, monkeypatch):
        organization_id = ledgers.new(30)
        asked = exports.request(organization_id)
        monkeypatch.setattr(making, "PART_BYTES", 500)
        original, seen = making._Writer._put, []

        def stolen(writer, part):
            original(writer, part)
            seen.append(len(part))
            if len(seen) == 3:
                with ledgers.superuser() as database:
                    database.execute("UPDATE audit_export SET claim = 'other' WHERE id = %s", [asked.id])

        monkeypatch.setattr(making._Writer, "_put", stolen)
        lost = exports.make(asked)
        assert (lost.state, lost.claim, len(seen)) == ("running", "other", 3)
        assert [e.act for e in of_export(organization_id, asked)] == ["export.requested"]

    def test_poisoned_it_is_tried_three_times_and_fails_with_words(self, monkeypatch):
        organization_id = ledgers.new(3)
        asked = exports.request(organization_id)

        def broken(*_):
            raise RuntimeError("no")

        monkeypatch.setattr(tables.Table, "pieces", broken)
        for attempt in range(making.MOST_ATTEMPTS):
            assert exports.make(asked).state == "queued"
            assert exports.fresh(asked).attempts == attempt + 1
            assert waits(asked)
        failed = exports.make(asked)
        assert (failed.state, failed.reason) == ("failed", making.BROKEN)
        assert [e.act for e in of_export(organization_id, asked)] == ["export.requested"]

    def test_without_its_entry_it_is_not_ready(self, monkeypatch):
        organization_id = ledgers.new(3)
        asked = exports.request(organization_id)

        def broken(*_):
            raise connection.Database.OperationalError("the ledger is out of reach")

        monkeypatch.setattr(ledger, "_append", broken)
        assert exports.make(asked).state == "queued"
        monkeypatch.undo()
        assert exports.make(asked).is_ready

    def test_killed_midway_it_is_made_by_the_next(self):
        organization_id = ledgers.new(3 * bundle.PAGE)
        bundles.sign(organization_id)
        asked = exports.request(organization_id, "bundle")
        program = (
            "import django; django.setup()\n"
            "import os, sys\n"
            "from audit.exports import making\n"
            "making.PART_BYTES = 1000\n"
            "put = making._Writer._put\n"
            "def killed(writer, part):\n"
            "    put(writer, part)\n"
            "    if writer.parts == 5:\n"
            "        os.kill(os.getpid(), 9)\n"
            "making._Writer._put = killed\n"
            f"making.make({organization_id!r}, {asked.id!r})\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=cluster.ROOT,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "portal.settings"},
            timeout=120,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL
        left = exports.fresh(asked)
        assert left.state == "running"
        assert exports.content(left)
        deadline = time.monotonic() + 20
        while not exports.make(asked).is_ready and time.monotonic() < deadline:
            time.sleep(0.1)
        made = exports.fresh(asked)
        assert (made.is_ready, made.attempts) == (True, 2)
        assert sha256(exports.content(made)).hexdigest() == made.sha256
        bundles.read([exports.content(made)])
        assert [e.act for e in of_export(organization_id, made)] == ["export.requested", "export.made"]

    def test_the_sweep_queues_what_a_lost_job_left(self):
        organization_id = ledgers.new(3)
        asked = exports.request(organization_id)
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM procrastinate_jobs WHERE args ->> 'export_id' = %s", [asked.id])
        making.enqueue_unfinished()
        making.enqueue_unfinished()
        assert waits(asked) == 1


class TestEnding:
    def test_after_a_day_it_is_gone_with_its_bytes(self):
        organization_id = ledgers.new(3)
        made = exports.make(exports.request(organization_id))
        kept = exports.make(exports.request(organization_id))
        with ledgers.superuser() as database:
            database.execute("UPDATE audit_export SET expires_at = now() WHERE id = %s", [made.id])
        making.expire()
        with tenancy.within(organization_id):
            assert list(Export.objects.values_list("id", flat=True)) == [kept.id]
            assert not ExportPart.objects.filter(export=made.id).exists()

    def test_removed_it_is_gone_once(self):
        organization_id = ledgers.new(3)
        made = exports.make(exports.request(organization_id))
        with tenancy.within(organization_id):
            services.remove_export(made, actor=ledgers.ALICE)
        with pytest.raises(ExportStateForbids), tenancy.within(organization_id):
            services.remove_export(made, actor=ledgers.ALICE)
        with tenancy.within(organization_id):
            assert not ExportPart.objects.exists()
        assert [e.act for e in of_export(organization_id, made)][-1] == "export.removed"

    def test_removed_while_it_is_made_it_stays_gone(self, monkeypatch):
        organization_id = ledgers.new(3)
        asked = exports.request(organization_id)
        original = making._Writer.end

        def late(writer, *arguments):
            with tenancy.within(organization_id):
                services.remove_export(asked, actor=ledgers.ALICE)
            original(writer, *arguments)

        monkeypatch.setattr(making._Writer, "end", late)
        making.make(organization_id, asked.id)
        with tenancy.within(organization_id):
            assert not Export.objects.exists()
            assert not ExportPart.objects.exists()


class TestTenancy:
    def test_no_part_hangs_on_a_strangers_export(self):
        own, other = ledgers.new(2), ledgers.new(2)
        foreign = exports.request(other)
        with (
            pytest.raises(DatabaseError, match="foreign key"),
            tenancy.within(own),
            connection.cursor() as cursor,
        ):
            cursor.execute(
                "INSERT INTO audit_exportpart (export_id, organization_id, number, piece) VALUES (%s, %s, 0, 'x')",
                [foreign.id, own],
            )

    def test_the_application_can_not_forget_a_strangers(self):
        other = ledgers.new(2)
        with (
            pytest.raises(DatabaseError, match="permission denied"),
            tenancy.within(ledgers.new(2)),
            connection.cursor() as cursor,
        ):
            cursor.execute("SELECT audit_exports_forget(%s)", [other])


def test_the_lock_is_let_go_with_its_connection():
    with closing(apart.connected()), apart.lock("exp_x") as first:
        assert first
        with apart.lock("exp_x") as second:
            assert not second
    with apart.lock("exp_x") as third:
        assert third
