"""Entries before and after another: found where they are in the index, however long the ledger is."""

import pytest
from django.db import connection

from audit import tenancy
from audit.models import Entry
from tests import ledgers


@pytest.fixture
def organization_id():
    return ledgers.new(9)


def test_neighbours(organization_id):
    with tenancy.within(organization_id):
        entries = Entry.objects.of(organization_id)
        assert [each.index for each in entries.before(1, 4).newest_first()] == [3, 2, 1, 0]
        assert [each.index for each in entries.after(1, 6).oldest_first()] == [7, 8]
        assert entries.before(2, 0).count() == entries.after(0, 5).count() == 9
        assert not entries.before(0, 5).exists()
        assert not entries.after(2, 0).exists()
        assert not entries.after(9999, 10**17).exists()


@pytest.mark.parametrize(
    ("name", "operator", "order"), [("before", "<", "newest_first"), ("after", ">", "oldest_first")]
)
def test_the_index_begins_at_the_entry(organization_id, name, operator, order):
    with tenancy.within(organization_id), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_bitmapscan = off")
        entries = getattr(Entry.objects.of(organization_id), name)(1, 4)
        plan = getattr(entries, order)()[:1].explain()
    assert "Index Cond" in plan
    assert f"ROW(epoch, index) {operator} ROW(" in plan.partition("Index Cond")[2].partition("Filter")[0]
    assert "Sort" not in plan
