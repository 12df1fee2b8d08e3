"""Writing the ledger: whatever happens meanwhile, an entry and its change stand or fall together, in one chain."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from django.db import OperationalError, connection

from audit import ledger, stored, tenancy
from audit.actors import Actor
from audit.errors import EntryInvalid, LedgerUnavailable
from audit.models import Entry, Head
from audit.verify import verify
from orgs import ids
from tests import ledgers
from tests.ledgers import ALICE

WRITERS = 16


def entries(organization_id):
    with tenancy.within(organization_id):
        return list(Entry.objects.of(organization_id).order_by("epoch", "index"))


def acts(organization_id):
    return [(entry.act, entry.target) for entry in entries(organization_id)]


def head_of(organization_id):
    return Head.objects.using("notary").filter(organization_id=organization_id).first()


def check(organization_id):
    with stored.snapshot():
        return verify(
            organization_id,
            stored.head(organization_id),
            stored.rows(organization_id),
            stored.openings(organization_id),
        )


def at_once(work, arguments):
    """Run `work` for each argument in a thread and connection of its own, all let go together."""
    ready = threading.Barrier(len(arguments))

    def one(argument):
        try:
            with connection.cursor():
                ready.wait(10)
            return work(argument)
        finally:
            connection.close()

    with ThreadPoolExecutor(len(arguments)) as pool:
        return list(pool.map(one, arguments))


class TestTogether:
    def test_sixteen_writers_make_one_chain_without_a_gap(self):
        organization_id = ids.new("org")

        def write(number):
            for turn in range(10):
                ledgers.append(organization_id, 1 + turn % 3, first=number * 100 + turn * 3)

        at_once(write, range(WRITERS))
        size = 1 + WRITERS * (3 * 6 + 1)
        assert check(organization_id).size == size
        assert [entry.index for entry in entries(organization_id)] == list(range(size))

    def test_the_first_entry_opens_the_ledger_once(self):
        organization_id = ids.new("org")
        at_once(lambda _: ledgers.append(organization_id), range(WRITERS))
        assert [act for act, _ in acts(organization_id)] == ["ledger.opened"] + ["key.created"] * WRITERS

    def test_the_order_of_indexes_is_the_order_of_commits(self):
        """A reader who saw index n has seen everything before it, and sees nothing appear below it later."""
        organization_id = ledgers.new(2)
        writing = threading.Event()
        writing.set()
        seen = []

        def work(number):
            if number:
                for turn in range(20):
                    ledgers.append(organization_id, first=turn)
                return
            while writing.is_set():
                seen.append([entry.index for entry in entries(organization_id)])

        def all_of_it():
            at_once(work, range(4))

        watcher = threading.Thread(target=all_of_it)
        watcher.start()
        while len(entries(organization_id)) < 2 + 3 * 20 and watcher.is_alive():
            pass
        writing.clear()
        watcher.join()
        assert len(seen) > 1
        assert all(indexes == list(range(len(indexes))) for indexes in seen)

    def test_many_organizations_in_one_transaction_are_taken_in_order(self):
        """Each asks for them in another order; the outermost appends by id, so that no two wait for each other."""
        organizations = [ledgers.new(2) for _ in range(4)]

        def write(number):
            for turn in range(10):
                order = organizations[number % 4 :] + organizations[: number % 4]
                with tenancy.everywhere(tenancy.Reason.COMMAND), ledger.recording(order[0], ALICE):
                    for organization_id in order:
                        with ledger.recording(organization_id, ALICE) as entry:
                            entry("policy.changed", target=f"{number}-{turn}")

        at_once(write, range(8))
        assert [check(organization_id).size for organization_id in organizations] == [2 + 80] * 4


class TestTakenBack:
    def test_a_transaction_that_fails_leaves_no_entry(self):
        organization_id = ledgers.new(2)
        with (
            pytest.raises(KeyError),
            tenancy.within(organization_id),
            ledger.recording(organization_id, ALICE) as entry,
        ):
            entry("key.revoked", target="key_1")
            raise KeyError
        ledgers.append(organization_id, first=9)
        assert [target for _, target in acts(organization_id)] == ["", "key_0", "key_9"]
        assert check(organization_id).size == 3

    def test_one_that_fails_after_appending_does_not_either(self):
        organization_id = ledgers.new(2)
        with pytest.raises(KeyError), tenancy.within(organization_id):
            with ledger.recording(organization_id, ALICE) as entry:
                entry("key.revoked", target="key_1")
            assert len(acts(organization_id)) == 3
            raise KeyError
        assert len(acts(organization_id)) == 2
        assert check(organization_id).size == 2

    def test_an_inner_one_takes_back_its_entries_and_its_rows(self, thing):
        organization_id = ledgers.new(2)
        with tenancy.within(organization_id), ledger.recording(organization_id, ALICE) as entry:
            entry("key.disabled", target="before")
            write(thing, "before")
            with pytest.raises(KeyError), ledger.recording(organization_id, ALICE) as inner:
                inner("key.revoked", target="inside")
                write(thing, "inside")
                raise KeyError
            with ledger.recording(organization_id, ALICE) as inner:
                inner("key.enabled", target="after")
                write(thing, "after")
        assert [target for _, target in acts(organization_id)][2:] == ["before", "after"]
        assert read(thing) == ["after", "before"]

    def test_an_inner_one_of_another_organization_too(self):
        ours, theirs = ledgers.new(2), ledgers.new(2)
        with tenancy.everywhere(tenancy.Reason.COMMAND), ledger.recording(ours, ALICE) as entry:
            entry("key.disabled", target="x")
            with pytest.raises(KeyError), ledger.recording(theirs, ALICE) as inner:
                inner("key.revoked", target="y")
                raise KeyError
        assert (len(acts(ours)), len(acts(theirs))) == (3, 2)

    def test_an_entry_that_is_none_takes_back_the_rows(self, thing):
        organization_id = ledgers.new(2)
        with (
            pytest.raises(EntryInvalid),
            tenancy.within(organization_id),
            ledger.recording(organization_id, ALICE) as entry,
        ):
            write(thing, "x")
            entry("key.created", target="key_1", data={"Name": "not a member name"})
        assert read(thing) == []
        assert len(acts(organization_id)) == 2

    def test_nothing_recorded_is_nothing_appended(self):
        organization_id = ids.new("org")
        with tenancy.within(organization_id), ledger.recording(organization_id, ALICE):
            pass
        assert head_of(organization_id) is None


class TestUnavailable:
    def test_a_head_that_somebody_holds(self, thing):
        organization_id = ledgers.new(2)
        with ledgers.superuser(autocommit=False) as superuser:
            lock = "SELECT FROM audit_head WHERE organization_id = %s FOR UPDATE"
            superuser.execute(lock, [organization_id])
            with (
                shortened_wait(),
                pytest.raises(LedgerUnavailable, match="lock timeout"),
                tenancy.within(organization_id),
                ledger.recording(organization_id, ALICE) as entry,
            ):
                write(thing, "x")
                entry("key.revoked", target="key_0")
        assert read(thing) == []
        assert len(acts(organization_id)) == 2
        ledgers.append(organization_id)
        assert check(organization_id).size == 3

    def test_a_session_that_works_elsewhere(self):
        organization_id = ledgers.new(2)
        with (
            pytest.raises(LedgerUnavailable, match="does not work in that organization"),
            tenancy.within("org_other"),
            ledger.recording(organization_id, ALICE) as entry,
        ):
            entry("key.revoked", target="key_0")
        assert len(acts(organization_id)) == 2

    @pytest.mark.parametrize("appended", [False, True])
    def test_a_backend_that_dies_leaves_nothing_half_done(self, thing, appended):
        organization_id = ledgers.new(2)

        def work():
            with tenancy.within(organization_id):
                with ledger.recording(organization_id, ALICE) as entry:
                    write(thing, "x")
                    entry("key.revoked", target="key_0")
                    if not appended:
                        kill(connection)
                kill(connection)

        with pytest.raises((LedgerUnavailable, OperationalError)):
            work()
        connection.close()
        assert read(thing) == []
        assert len(acts(organization_id)) == 2
        ledgers.append(organization_id)
        assert check(organization_id).size == 3


class TestTime:
    def test_a_clock_that_went_back_is_told_of(self):
        organization_id = ledgers.new(2)
        move_head(organization_id, "10 minutes")
        ledgers.append(organization_id, first=7)
        noticed, written = entries(organization_id)[2:]
        assert (noticed.act, noticed.actor) == ("clock.regressed", "sys_portal")
        assert 590_000 < noticed.parsed().data["behind_ms"] <= 600_000
        assert written.target == "key_7"
        assert noticed.at == written.at > entries(organization_id)[1].at

    def test_a_little_is_not(self):
        organization_id = ledgers.new(2)
        move_head(organization_id, "3 seconds")
        ledgers.append(organization_id, first=7)
        assert [act for act, _ in acts(organization_id)][2:] == ["key.created"]
        assert entries(organization_id)[2].at > entries(organization_id)[1].at

    def test_times_never_go_back(self):
        organization_id = ledgers.new(2)
        for number in range(20):
            ledgers.append(organization_id, first=number)
        times = [entry.at for entry in entries(organization_id)]
        assert times == sorted(times)


class TestWhatIsRecorded:
    def test_personal_data_is_sealed_and_facts_are_not(self):
        organization_id = ids.new("org")
        with tenancy.within(organization_id), ledger.recording(organization_id, ALICE) as entry:
            entry("key.revoked", target="key_1", data={"reason": "leaked"}, sealed={"note": "found", "x": ""})
        written = entries(organization_id)[1]
        told = written.parsed()
        assert told.data == {"target": "key_1", "reason": "leaked", "request_id": "req_alice"}
        assert set(told.sealed) == {"name", "email", "ip", "user_agent", "note"}
        assert (written.act, written.actor, written.target) == ("key.revoked", "usr_alice", "key_1")
        assert written.request_id == "req_alice"
        for secret in (b"Larsen", b"northline.example", b"203.0.113", b"Mozilla", b"found"):
            assert secret not in bytes(written.leaf)

    def test_an_act_that_is_not_on_the_list_is_refused(self):
        organization_id = ids.new("org")
        with (
            pytest.raises(ValueError, match="exploded"),
            tenancy.within(organization_id),
            ledger.recording(organization_id, ALICE) as entry,
        ):
            entry("key.exploded", target="key_1")

    def test_long_and_strange_personal_data_is_clipped(self):
        organization_id = ids.new("org")
        strange = Actor(id="usr_x", name="n" * 5000, user_agent="a\x00b\ud800" + "é" * 3000)
        ledgers.append(organization_id, actor=strange)
        assert check(organization_id).size == 2

    def test_every_kind_of_value(self):
        organization_id = ids.new("org")
        with tenancy.within(organization_id), ledger.recording(organization_id, ALICE) as entry:
            at = datetime(2026, 11, 21, 12, tzinfo=UTC)
            entry(
                "key.changed",
                target="key_1",
                data={
                    "before": {"expires_at": at, "n": 1, "on": True},
                    "after": {"tags": ("a=b",), "x": None},
                },
            )
        data = entries(organization_id)[1].parsed().data
        assert data["before"] == {"expires_at": "2026-11-21T12:00:00.000Z", "n": 1, "on": True}
        assert data["after"] == {"tags": ["a=b"], "x": None}


@pytest.fixture
def thing():
    """An ordinary table, whose rows are the change that entries tell of."""
    name = ids.new("thing")
    with ledgers.superuser() as superuser:
        superuser.execute(f"CREATE TABLE {name} (what text); GRANT ALL ON {name} TO keystead_app".encode())
    yield name
    with ledgers.superuser() as superuser:
        superuser.execute(f"DROP TABLE {name}".encode())


def write(thing, what):
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {thing} VALUES (%s)", [what])


def read(thing):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT what FROM {thing} ORDER BY what")
        return [what for (what,) in cursor.fetchall()]


def kill(victim):
    with victim.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pid = cursor.fetchone()[0]
    with ledgers.superuser() as superuser:
        superuser.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


def move_head(organization_id, interval):
    """Let the last entry seem to be of the future, as after a clock was set back."""
    with ledgers.without_triggers() as superuser:
        superuser.execute(
            "UPDATE audit_head SET last_at = date_trunc('milliseconds', clock_timestamp()) + %s::interval "
            "WHERE organization_id = %s",
            [interval, organization_id],
        )


class shortened_wait:  # noqa: N801 - reads as a phrase
    """Let who waits for a head give up after 200 ms instead of five seconds, on this process's database."""

    def __enter__(self):
        self._set("200ms")

    def __exit__(self, *_):
        self._set("5s")

    def _set(self, timeout):
        with ledgers.superuser() as superuser:
            superuser.execute(
                f"ALTER FUNCTION ledger_begin(text, text) SET lock_timeout = '{timeout}'".encode()
            )


def test_the_wait_for_a_head_is_bounded():
    with ledgers.superuser() as superuser:
        rows = superuser.execute(
            "SELECT proname, proconfig FROM pg_proc WHERE proname LIKE 'ledger\\_%' "
            "AND has_function_privilege('keystead_app', oid, 'EXECUTE')"
        ).fetchall()
    # What only these call (`ledger_erase`) runs under their bound.
    assert {name for name, _ in rows} == {"ledger_begin", "ledger_append", "ledger_reopen"}
    assert all("lock_timeout=5s" in settings for _, settings in rows)
