"""Small ledgers, verified together: each gets what is its own, and what is wrong with one says nothing of the next."""

from unittest import mock

import pytest
from django.db import DataError

from audit import stored
from audit.notary.alarms import Alarms
from audit.notary.sweeping import AT_ONCE, together, verify_ledgers
from orgs import ids
from tests import ledgers

LONG = stored.PAGE + 20
SIZES = (3, LONG, 2, 4, 2, 3, LONG, 5)


@pytest.fixture
def neighbours():
    """The ids of ledgers in the database's order: long ones, short ones, and what is left of two deleted ones."""
    # Nothing of another test stands between them.
    stem = ids.new("org")[:-1]
    made = [stem + letter for letter in "abcdefgh"]
    for organization_id, size in zip(made, SIZES, strict=True):
        ledgers.append(organization_id, size - 1)
    with ledgers.without_triggers() as superuser:
        for table in ("audit_entry", "audit_head"):
            superuser.execute(f"DELETE FROM {table} WHERE organization_id = %s".encode(), [made[2]])
        for table in ("audit_sealed", "audit_entry", "audit_head"):
            superuser.execute(f"DELETE FROM {table} WHERE organization_id = %s".encode(), [made[4]])
    return made


def alone(organization_id):
    return (
        stored.head(organization_id),
        list(stored.rows(organization_id)),
        list(stored.openings(organization_id)),
    )


def found(organizations):
    alarms = Alarms()
    verify_ledgers(organizations, alarms, lambda: False)
    return {told["organization"]: (told["kind"], told["index"]) for told in alarms.published()}


class TestReading:
    def test_each_gets_what_it_gets_alone(self, neighbours):
        with stored.snapshot():
            told = {
                each.organization_id: (each.head, list(each.rows), list(each.openings))
                for each in stored.ledgers(neighbours)
            }
            assert told == {each: alone(each) for each in neighbours}
        assert {len(rows) for _, rows, _ in told.values()} >= {LONG, 0}

    def test_also_where_others_stand_between_and_behind_them(self, neighbours):
        listed = neighbours[1:-1:2]
        with stored.snapshot():
            told = {each.organization_id: list(each.rows) for each in stored.ledgers(listed)}
            assert told == {each: alone(each)[1] for each in listed}

    def test_also_where_nobody_reads_to_the_end(self, neighbours):
        with stored.snapshot():
            told = [next(each.rows, None) for each in stored.ledgers(neighbours)]
            assert told == [next(iter(alone(each)[1]), None) for each in neighbours]

    def test_nothing_is_read_far_behind_the_last(self, neighbours):
        with stored.snapshot(), mock.patch.object(stored, "query", wraps=stored.query) as query:
            for each in stored.ledgers(neighbours[3:5]):
                assert (list(each.rows), list(each.openings)) == alone(each.organization_id)[1:]
        alone_too = 2 * len(("head", "rows", "openings"))
        assert query.call_count - alone_too == len(("heads", "rows", "openings"))

    @pytest.mark.parametrize(
        ("sql", "index", "parts"),
        [
            ("ROWS", "audit_entry_pkey", 3),
            ("ROWS_ON", "audit_entry_pkey", 3),
            ("OPENINGS", "audit_sealed_pkey", 4),
            ("OPENINGS_ON", "audit_sealed_pkey", 4),
        ],
    )
    def test_a_page_is_read_by_the_primary_key_and_never_sorted(self, neighbours, sql, index, parts):
        after = (neighbours[1], 1, 5, "")[:parts]
        with ledgers.superuser() as superuser:
            superuser.execute("SET enable_seqscan = off")
            statement = f"EXPLAIN {getattr(stored, sql)}".encode()
            plan = "\n".join(line for (line,) in superuser.execute(statement, [neighbours[1], *after, 9]))
        assert index in plan
        assert "Sort" not in plan


class TestVerifying:
    def test_each_alarm_is_the_one_that_verifying_alone_gives(self, neighbours):
        with ledgers.without_triggers() as superuser:
            superuser.execute(
                b"UPDATE audit_sealed SET value = value || 'x' WHERE organization_id = %s AND index = 1",
                [neighbours[0]],
            )
            superuser.execute(
                b"UPDATE audit_entry SET act = 'key.revoked' WHERE organization_id = %s AND index = 1",
                [neighbours[6]],
            )
        told = found(neighbours)
        assert told.keys() == {neighbours[0], neighbours[2], neighbours[4], neighbours[6]}
        assert told == {key: value for each in neighbours for key, value in found([each]).items()}

    def test_one_that_can_not_be_read_keeps_nobody_from_the_others(self, neighbours):
        hostile = neighbours[3]

        def query(using, sql, parameters=None):
            page = stored_query(using, sql, parameters)
            if "audit_entry" in sql and any(hostile in row for row in page):
                raise stored_error
            return page

        stored_query, stored_error = stored.query, DataError("invalid byte sequence")
        with mock.patch.object(stored, "query", query):
            told = found(neighbours)
        assert told[hostile] == ("unreadable", None)
        assert told.keys() == {hostile, neighbours[2], neighbours[4]}


class TestTogether:
    def test_no_more_entries_at_once_than_a_few(self):
        sizes = [("a", 1), ("b", AT_ONCE - 1), ("c", 1), ("d", 5 * AT_ONCE), ("e", 1), ("f", 2)]
        assert list(together(sizes)) == [["a", "b"], ["c"], ["d"], ["e", "f"]]

    def test_nobody_no_list(self):
        assert list(together([])) == []
