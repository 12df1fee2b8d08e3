"""Searching the ledger: what is found, by whom, at which cost, and what the worker keeps for it."""

import threading
from dataclasses import replace

import pytest
from django.db import DatabaseError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from audit import ledger, searching, tenancy
from audit.actors import Actor
from audit.models import Entry
from audit.searching import Wanted
from audit.tasks import search as tasks
from orgs import ids
from tests import ledgers

WORKER = Actor.system("worker")
BLOCK = 64


def record(where, act="key.created", *, actor=ledgers.ALICE, target="key_x", data=None, **sealed):
    with tenancy.within(where), ledger.recording(where, actor) as entry:
        entry(act, target=target, data=data or {}, sealed=sealed)


def find(where, text="", *, most=50, own=False, oldest_first=False, after=None, before=None, **wanted):
    bounds = {name: place for name, place in (("after", after), ("before", before)) if place is not None}
    with tenancy.within(where):
        return searching.find(
            Wanted(text=text, **wanted), most=most, own=own, oldest_first=oldest_first, **bounds
        )


def indexes(where, text="", **options):
    """Every index that is found, following `reached` to the end."""
    options = {"most": 5000} | options
    found, all_found, steps = find(where, text, **options), [], 0
    while True:
        all_found += [index for _, index in found.places]
        steps += 1
        if found.reached is None or steps > 100:
            return all_found
        side = "after" if options.get("oldest_first") else "before"
        found = find(where, text, **options | {side: found.reached})


def size(where):
    with tenancy.within(where):
        return Entry.objects.of(where).count()


def blocks(where):
    with ledgers.superuser() as superuser:
        return superuser.execute(
            b"SELECT epoch, block, words::text, is_due FROM audit_searchblock WHERE organization_id = %s"
            b" ORDER BY epoch, block",
            [where],
        ).fetchall()


def fill(where, count, first=0):
    """Append entries whose kind of words repeats: `even` or `odd`, every 50th `rare`, its number in `name`."""
    with tenancy.within(where), ledger.recording(where, ledgers.ALICE) as entry:
        for number in range(first, first + count):
            kind = "even" if number % 2 == 0 else "odd"
            rare = " rare" if number % 50 == 7 else ""
            entry(
                "key.created" if number % 2 else "key.changed",
                target=f"key_{number}",
                data={"name": f"prod-ingest-{number}", "kind": kind + rare},
            )


@pytest.fixture
def where():
    return ids.new("org")


@pytest.fixture(scope="module", params=["kept", "partly kept", "not kept"])
def long(request, django_db_setup, django_db_blocker):
    """Four blocks and a tail, of which the worker has kept all, some or none: what is found is the same."""
    with django_db_blocker.unblock():
        where = ids.new("org")
        fill(where, 130)
        if request.param == "partly kept":
            tasks.keep_words(where)
        fill(where, 150, first=130)
        if request.param == "kept":
            tasks.keep_words(where)
    return where


class TestWords:
    @pytest.mark.parametrize(
        "text",
        [
            "key.revoked",
            "revoked",
            "REVOKED",
            "usr_alice",
            "alice",
            "Alice Larsen",
            "larsen alice",
            "alice@northline.example",
            "203.0.113.9",
            "Linux",
            "partner-sync",
            "sync",
            "ticket 5512",
            "incidents:read",
            "req_alice",
            "Ærø",
            "ærø",
            "42",
            "key_needle",
            "nee",
            "revok",
            '"partner sync told"',
            '"told us"',
            "partner, ticket",
        ],
    )
    @pytest.mark.parametrize("is_kept", [True, False])
    def test_everything_in_an_entry_is_found(self, where, text, is_kept):
        record(where)
        record(
            where,
            "key.revoked",
            target="key_needle",
            data={"name": "partner-sync", "after": {"scopes": ["incidents:read"], "count": 42}},
            note="ticket 5512 from Ærø: partner sync told us",
        )
        record(where, actor=WORKER)
        if is_kept:
            ledgers.append(where, BLOCK)
            tasks.keep_words(where)
            assert len(blocks(where)) == 1
        assert 2 in indexes(where, text)
        assert 3 not in indexes(where, text)

    @pytest.mark.parametrize(
        "text",
        [
            "revoke d",
            "key.created",
            "ync",
            "nx",
            '"revok"',
            "revok alice",
            "113.0.203.9",
            "after",
            "scopes",
            "—",
        ],
    )
    @pytest.mark.parametrize("is_kept", [True, False])
    def test_what_is_not_in_it_is_not_found(self, where, text, is_kept):
        record(where, "key.revoked", data={"name": "partner-sync", "after": {"scopes": ["incidents:read"]}})
        if is_kept:
            for _ in range(BLOCK):
                record(where, actor=WORKER, act="key.expired")
            tasks.keep_words(where)
        assert 1 not in indexes(where, text)

    def test_quotation_marks_and_operators_are_text(self, where):
        record(where, data={"name": "a'b\\c & d:* | !e <-> <2>"})
        for text in ("a'b\\c", "d:*", "!e", "'", "\\", "a & d", '"', '""', "<->", "%", "' OR '1'='1"):
            assert set(indexes(where, text)) <= {1}
        assert indexes(where, "a'b\\c & d:*") == [1]

    def test_an_entry_whose_bytes_were_damaged_is_found_by_what_stands_beside_them(self, where):
        record(where, "key.revoked", target="key_needle")
        with ledgers.without_triggers() as superuser:
            superuser.execute(
                b"UPDATE audit_entry SET leaf = '\\xff00' WHERE organization_id = %s AND index = 1", [where]
            )
        assert indexes(where, "needle") == [1]

    def test_a_block_with_too_many_words_is_read_directly(self, where):
        for number in range(BLOCK):
            with tenancy.within(where), ledger.recording(where, WORKER) as entry:
                words = [" ".join(f"z{number:02}{part}{n:03}y" for n in range(225)) for part in range(7)]
                entry("key.created", target=f"key_{number}", data={"words": words})
        tasks.keep_words(where)
        assert [(words, is_due) for _, _, words, is_due in blocks(where)] == [(None, False)]
        assert indexes(where, "z073011y") == [8]
        assert indexes(where, "z073011y", oldest_first=True) == [8]
        assert searching.keep_words(where) == 0


class TestPages:
    @pytest.mark.parametrize("oldest_first", [False, True])
    @pytest.mark.parametrize(
        ("text", "wanted", "which"),
        [
            ("even", {}, lambda n: n % 2 == 0),
            ("even rare", {}, lambda _: False),
            ("rare", {}, lambda n: n % 50 == 7),
            ("prod-ingest", {}, lambda _: True),
            ("ingest-27", {}, lambda n: n == 27),
            ("prod-ing", {}, lambda _: True),
            ("", {}, None),
            ("", {"actor": "usr_alice"}, lambda _: True),
            ("", {"acts": ("key.created",)}, lambda n: n % 2 == 1),
            ("", {"acts": ("key.created", "key.expired")}, lambda n: n % 2 == 1),
            ("", {"acts": ("key.created",), "actor": "usr_alice"}, lambda n: n % 2 == 1),
            ("", {"acts": ("key.expired",), "actor": "usr_alice"}, lambda _: False),
            ("", {"target": "key_7"}, lambda n: n == 7),
            ("", {"target": "key_7", "acts": ("key.changed",)}, lambda _: False),
            ("", {"request_id": "req_alice"}, lambda _: True),
            ("rare", {"request_id": "req_alice", "actor": "usr_alice"}, lambda n: n % 50 == 7),
            ("rare", {"actor": "usr_bob"}, lambda _: False),
        ],
    )
    def test_each_is_found_once_in_order_in_both_directions(self, long, text, wanted, which, oldest_first):
        expected = [n + 1 for n in range(280) if which is None or which(n)]
        if which is None:
            expected.insert(0, 0)
        found, bound = [], None
        for _ in range(300):
            side = "after" if oldest_first else "before"
            page = find(
                long, text, most=7, oldest_first=oldest_first, **wanted, **({side: bound} if bound else {})
            )
            found += [index for _, index in page.places]
            bound = page.reached or (page.places[-1] if len(page.places) == 7 else None)
            if bound is None:
                break
        assert found == (expected if oldest_first else expected[::-1])

    def test_time_is_a_range_of_places(self, where):
        for number in range(5):
            record(where, data={"name": f"number-{number}"})
        with tenancy.within(where):
            at = list(Entry.objects.of(where).oldest_first().values_list("at", flat=True))
        assert len(set(at[1:])) == 5
        assert indexes(where, since=at[2], until=at[4]) == [3, 2]
        assert indexes(where, "number", since=at[2], until=at[4], oldest_first=True) == [2, 3]
        assert indexes(where, "number-2", since=at[4]) == []
        assert indexes(where, since=at[5].replace(year=2999)) == []
        assert indexes(where, until=at[0]) == []
        assert indexes(where, until=at[5].replace(year=2999), actor="usr_alice") == [5, 4, 3, 2, 1]

    def test_a_look_is_bounded_and_goes_on_where_it_stopped(self, where):
        fill(where, 3000)
        assert size(where) == 3001
        first = find(where, "even odd")
        assert first.places == []
        assert first.reached == (1, 3000 - 2047)
        second = find(where, "even odd", before=first.reached)
        assert (second.places, second.reached) == ([], None)
        tasks.keep_words(where)
        assert find(where, "even odd") == searching.Found(places=[], reached=None)

    def test_the_bound_is_of_blocks_too(self, where):
        """Words that share every block and no entry: 512 blocks a look, and not one more."""
        fill(where, 100)
        with ledgers.superuser() as superuser:
            superuser.execute(
                b"INSERT INTO audit_searchblock SELECT %s, 1, n, ('''' || %s || ''' even:1 odd:2')::tsvector"
                b" FROM generate_series(0, 1999) n",
                [where, where],
            )
        reached, steps = (1, 2000 * BLOCK), []
        while reached is not None:
            found = find(where, "even odd ", before=reached)
            assert found.places == []
            steps.append((reached[1] - found.reached[1]) // BLOCK if found.reached else None)
            reached = found.reached
        assert len(steps) == 4
        assert all(500 <= step <= 520 for step in steps[:-1])


class TestCost:
    def test_one_query_by_index_whatever_is_asked(self, long):
        asked = [
            {},
            {"text": "rare"},
            {"text": "even odd"},
            {"actor": "usr_alice", "acts": ("key.created",)},
            {"acts": ("key.created", "key.changed")},
            {"request_id": "req_alice"},
            {"target": "key_7", "text": "rare"},
        ]
        before = scans()
        for wanted in asked:
            text = wanted.pop("text", "")
            with tenancy.within(long), CaptureQueriesContext(connection) as captured:
                searching.find(Wanted(text=text, **wanted), most=51)
            assert len(captured) == 1
        assert scans() == before


def scans():
    """How often each table of the search was read from end to end; other tests' blocks are in them too."""
    with ledgers.superuser() as superuser:
        superuser.execute(b"SELECT pg_stat_force_next_flush()")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT relname, seq_scan FROM pg_stat_user_tables"
            " WHERE relname IN ('audit_entry', 'audit_sealed', 'audit_searchblock') ORDER BY relname"
        )
        return cursor.fetchall()


class TestWhose:
    def test_only_the_organization_of_the_transaction(self, where):
        other = ids.new("org")
        for each in (where, other):
            record(each, data={"name": "needle"})
        fill(other, BLOCK, first=1000)
        tasks.keep_words(other)
        assert indexes(where, "needle") == [1]
        assert indexes(where, "prod-ingest") == []
        assert indexes(where, other) == []

    @pytest.mark.parametrize("setting", ["", "*"])
    def test_no_organization_finds_nothing(self, where, setting):
        record(where)
        with pytest.raises(DatabaseError, match="does not work in one organization"), transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('app.organization', %s, true)", [setting])
            searching.find(Wanted(text="key"), most=1)

    def test_own_looks_at_ones_own_alone(self, where):
        bob = replace(ledgers.ALICE, id="usr_bob", name="Bob")
        record(where, actor=bob, data={"name": "needle"})
        fill(where, 3000)
        found = find(where, "needle", own=True, actor="usr_bob")
        assert found == searching.Found(places=[(1, 1)], reached=None)
        assert find(where, "rare", own=True, actor="usr_bob") == searching.Found(places=[], reached=None)
        assert find(where, target="key_7", own=True, actor="usr_bob") == searching.Found(
            places=[], reached=None
        )

    def test_own_needs_to_say_whose(self, where):
        record(where)
        with pytest.raises(DatabaseError):
            find(where, "key", own=True)

    @pytest.mark.parametrize(
        "statement",
        [
            "SELECT * FROM audit_searchblock",
            "INSERT INTO audit_searchblock VALUES ('org_x', 1, 0, '')",
            "DELETE FROM audit_searchblock",
            "SELECT audit_search_forget('org_x', 1::smallint, '{0}')",
            "SELECT audit_search_lock('org_x')",
            "SELECT audit_block('org_x', 1::smallint, 0)",
            "SELECT audit_text(e) FROM audit_entry e",
            "SELECT audit_look(NULL, 'all', 0, 0, 2, 9, false, 1, 9)",
        ],
    )
    def test_the_application_touches_no_words(self, where, statement):
        record(where)
        with (
            pytest.raises(DatabaseError, match="permission denied"),
            tenancy.within(where),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)


class TestKeeping:
    def test_a_head_that_somebody_changed_keeps_nobody_busy(self, where):
        ledgers.append(where, 2 * BLOCK)
        with ledgers.without_triggers() as superuser:
            superuser.execute(
                b"UPDATE audit_head SET size = 1000000000000 WHERE organization_id = %s", [where]
            )
        assert searching.keep_words(where) == 2
        assert searching.keep_words(where) == 0
        assert where not in searching.behind()

    @pytest.mark.parametrize(
        "changed",
        [
            "UPDATE audit_head SET size = 1000000000000, epoch = 3",
            "UPDATE audit_entry SET epoch = 2",
            "UPDATE audit_entry SET index = 9223372036854775807 - index",
        ],
        ids=["epochs without entries", "entries before their epoch", "entries far away"],
    )
    def test_nor_does_a_ledger_without_entries_where_they_belong(self, where, changed):
        lag = searching.lag()
        ledgers.append(where, 2 * BLOCK)
        with ledgers.without_triggers() as superuser:
            superuser.execute(
                b"UPDATE audit_head SET size = 9223372036854775807 WHERE organization_id = %s", [where]
            )
            superuser.execute(f"{changed} WHERE organization_id = %s".encode(), [where])
        assert searching.keep_words(where) <= 3
        assert searching.keep_words(where) == 0
        assert where not in searching.behind()
        assert searching.lag() == lag

    def test_each_complete_block_once(self, where):
        ledgers.append(where, 2 * BLOCK)
        assert where in searching.behind()
        assert searching.keep_words(where) == 2
        before = blocks(where)
        assert [(epoch, block, is_due) for epoch, block, _, is_due in before] == [
            (1, 0, False),
            (1, 1, False),
        ]
        assert where not in searching.behind()
        assert searching.keep_words(where) == 0
        assert blocks(where) == before

    def test_as_many_at_once_as_are_asked_for(self, where):
        ledgers.append(where, 5 * BLOCK)
        assert [searching.keep_words(where, most=2) for _ in range(4)] == [2, 2, 1, 0]

    def test_two_workers_at_once(self, where):
        ledgers.append(where, 12 * BLOCK)
        written = []

        def work():
            try:
                while count := searching.keep_words(where, most=1):
                    written.append(count)
            finally:
                connections.close_all()

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sum(written) == 12
        assert len(blocks(where)) == 12

    def test_the_sweep_keeps_everybodys(self, where):
        ledgers.append(where, BLOCK)
        tasks.sweep_words(0)
        assert len(blocks(where)) == 1

    @pytest.mark.parametrize(("count", "jobs"), [(tasks.MANY - 1, 0), (tasks.MANY, 1)])
    def test_many_entries_at_once_are_kept_soon(self, where, count, jobs):
        record(where)
        ledgers.append(where, count)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'audit.keep_words' AND args = %s",
                [f'{{"organization_id": "{where}"}}'],
            )
            assert cursor.fetchone() == (jobs,)

    def test_the_last_block_of_an_epoch_that_ended(self, where):
        """It is complete as it is, though it is short."""
        ledgers.append(where, 70)
        with ledgers.without_triggers() as superuser:
            superuser.execute(
                b"UPDATE audit_head SET epoch = 2, size = 0 WHERE organization_id = %s", [where]
            )
        assert where in searching.behind()
        assert searching.keep_words(where) == 2
        assert [block[:2] for block in blocks(where)] == [(1, 0), (1, 1)]
        assert where not in searching.behind()

    def test_erased_words_are_forgotten(self, where):
        """As ledger_erase does it: the openings go, and the words of their blocks with them, in one transaction."""
        record(where, note="ticket from larry")
        ledgers.append(where, BLOCK)
        tasks.keep_words(where)
        assert "larry" in blocks(where)[0][2]
        assert indexes(where, "larry") == [1]
        with ledgers.without_triggers() as superuser:
            superuser.execute(
                b"DELETE FROM audit_sealed WHERE organization_id = %s AND index = 1 AND field = 'note'",
                [where],
            )
            superuser.execute(b"SELECT audit_search_forget(%s, 1::smallint, '{1}')", [where])
        assert [(words, is_due) for _, _, words, is_due in blocks(where)] == [(None, True)]
        assert indexes(where, "larry") == []
        assert indexes(where, "alice") == list(range(65, 0, -1))
        assert where in searching.behind()
        assert searching.keep_words(where) == 1
        assert "larry" not in blocks(where)[0][2]
        assert indexes(where, "alice") == list(range(65, 0, -1))

    def test_who_keeps_and_who_erases_wait_for_each_other(self, where):
        """A block that was read before an erasure can't be written after it."""
        ledgers.append(where, BLOCK)
        done = threading.Event()

        def keep():
            try:
                searching.keep_words(where)
                done.set()
            finally:
                connections.close_all()

        with ledgers.superuser(autocommit=False) as superuser:
            superuser.execute(b"SELECT audit_search_forget(%s, 1::smallint, '{1}')", [where])
            thread = threading.Thread(target=keep)
            thread.start()
            assert not done.wait(0.5)
        thread.join(30)
        assert done.is_set()

    def test_only_where_each_statement_sees_what_was_committed(self, where):
        ledgers.append(where, BLOCK)
        with pytest.raises(DatabaseError, match="read committed"), transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            searching.keep_words(where)


class TestChunks:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", ([], False)),
            ("  ", ([], False)),
            ("one two", (["one", "two"], True)),
            ('"one two" three', (["one two", "three"], True)),
            ('three "one two"', (["three", "one two"], False)),
            ('"one two', (["one two"], False)),
            ('""', ([], False)),
            ("— … *", ([], False)),
            ("a, b;", (["a", "b"], True)),
            ("_x_", (["x"], True)),
            ("key_abc", (["key_abc"], True)),
        ],
    )
    def test_what_was_typed(self, text, expected):
        assert searching.chunks(text) == expected
