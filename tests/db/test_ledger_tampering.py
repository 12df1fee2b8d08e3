"""A superuser disables the triggers and changes a ledger: `ledger verify` names what was done."""

import io
import random
import re

import pytest
from django.core.management import CommandError, call_command

from tests import ledgers

SIZE = 40


def verify(organization_id):
    out = io.StringIO()
    call_command("ledger", "verify", organization=organization_id, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def finding(organization_id):
    with pytest.raises(CommandError) as caught:
        verify(organization_id)
    assert caught.value.returncode == 1
    found = re.fullmatch(r"(\S+)  epoch (\d+), entry (\d+): (\w+): .+", str(caught.value))
    assert found
    assert found[1] == organization_id
    assert found[2] == "1"
    return found[4], int(found[3])


@pytest.fixture
def chance(request):
    return random.Random(request.node.nodeid)


@pytest.fixture
def organization_id():
    return ledgers.new(SIZE)


def change(statement, *parameters):
    with ledgers.without_triggers() as superuser:
        assert superuser.execute(statement.encode(), parameters).rowcount > 0


def leaf_of(superuser, organization_id, index):
    query = "SELECT leaf FROM audit_entry WHERE organization_id = %s AND index = %s"
    return superuser.execute(query, [organization_id, index]).fetchone()[0]


def test_an_untouched_ledger_has_its_size_and_root(organization_id):
    assert re.fullmatch(
        rf"{organization_id}  epoch 1  size {SIZE}  root [A-Za-z0-9+/]{{43}}=\n", verify(organization_id)
    )


@pytest.mark.parametrize("number", range(12))
def test_a_flipped_bit_of_a_leaf(organization_id, chance, number):
    index = chance.randrange(SIZE)
    with ledgers.without_triggers() as superuser:
        leaf = bytearray(leaf_of(superuser, organization_id, index))
        leaf[chance.randrange(len(leaf))] ^= 1 << chance.randrange(8)
        superuser.execute(
            "UPDATE audit_entry SET leaf = %s WHERE organization_id = %s AND index = %s",
            [bytes(leaf), organization_id, index],
        )
    assert finding(organization_id)[1] == index


def test_an_entry_told_otherwise_with_its_projection(organization_id, chance):
    index = chance.randrange(1, SIZE)
    change(
        "UPDATE audit_entry SET actor = 'usr_mallo', "
        "leaf = convert_to(replace(convert_from(leaf, 'UTF8'), 'usr_alice', 'usr_mallo'), 'UTF8') "
        "WHERE organization_id = %s AND index = %s",
        organization_id,
        index,
    )
    assert finding(organization_id) == ("altered", index)


def test_a_deleted_entry(organization_id, chance):
    index = chance.randrange(SIZE - 1)
    change("DELETE FROM audit_entry WHERE organization_id = %s AND index = %s", organization_id, index)
    assert finding(organization_id) == ("dropped", index)


def test_a_deleted_tail(organization_id, chance):
    index = chance.randrange(1, SIZE)
    change("DELETE FROM audit_sealed WHERE organization_id = %s AND index >= %s", organization_id, index)
    change("DELETE FROM audit_entry WHERE organization_id = %s AND index >= %s", organization_id, index)
    assert finding(organization_id) == ("dropped", index)


def test_a_ledger_deleted_but_for_its_head(organization_id):
    for table in ("audit_sealed", "audit_entry"):
        change(f"DELETE FROM {table} WHERE organization_id = %s", organization_id)
    assert finding(organization_id) == ("dropped", 0)


def test_a_deleted_head(organization_id):
    change("DELETE FROM audit_head WHERE organization_id = %s", organization_id)
    assert finding(organization_id) == ("dropped", 0)


def test_two_swapped_entries(organization_id, chance):
    one, other = sorted(chance.sample(range(1, SIZE), 2))
    for old, new in ((one, SIZE + 1), (other, one), (SIZE + 1, other)):
        change(
            "UPDATE audit_entry SET index = %s WHERE organization_id = %s AND index = %s",
            new,
            organization_id,
            old,
        )
    assert finding(organization_id) == ("swapped", one)


def test_an_inserted_entry(organization_id, chance):
    index = chance.randrange(1, SIZE)
    for table in ("audit_entry", "audit_sealed"):
        change(
            f"UPDATE {table} SET index = index + 1000 WHERE organization_id = %s AND index >= %s",
            organization_id,
            index,
        )
        change(
            f"UPDATE {table} SET index = index - 999 WHERE organization_id = %s AND index >= 1000",
            organization_id,
        )
    columns = "act, actor, target, request_id, at"
    change(
        f"INSERT INTO audit_entry (organization_id, epoch, index, leaf, {columns}) "
        "SELECT organization_id, epoch, %s, convert_to(regexp_replace(convert_from(leaf, 'UTF8'), "
        f"'\"i\":[0-9]+', '\"i\":' || %s), 'UTF8'), {columns} "
        "FROM audit_entry WHERE organization_id = %s AND index = %s",
        index,
        str(index),
        organization_id,
        index - 1,
    )
    assert finding(organization_id) == ("inserted", index)


def test_an_entry_behind_the_last(organization_id):
    change(
        "INSERT INTO audit_entry SELECT organization_id, epoch, %s, leaf, act, actor, target, request_id, at "
        "FROM audit_entry WHERE organization_id = %s AND index = 5",
        SIZE,
        organization_id,
    )
    assert finding(organization_id) == ("inserted", SIZE)


@pytest.mark.parametrize(
    "column",
    ["act = 'key.revoked'", "actor = 'usr_bob'", "target = 'key_x'", "request_id = ''", "at = 'infinity'"],
)
def test_a_changed_projection(organization_id, chance, column):
    index = chance.randrange(1, SIZE)
    change(
        f"UPDATE audit_entry SET {column} WHERE organization_id = %s AND index = %s", organization_id, index
    )
    assert finding(organization_id) == ("altered", index)


@pytest.mark.parametrize("column", ["value = 'Mallory'", "salt = sha256('x')"])
def test_a_changed_opening(organization_id, chance, column):
    index = chance.randrange(1, SIZE)
    change(
        f"UPDATE audit_sealed SET {column} WHERE organization_id = %s AND index = %s AND field = 'email'",
        organization_id,
        index,
    )
    assert finding(organization_id) == ("altered", index)


def test_a_deleted_opening(organization_id, chance):
    index = chance.randrange(1, SIZE)
    change(
        "DELETE FROM audit_sealed WHERE organization_id = %s AND index = %s AND field = 'ip'",
        organization_id,
        index,
    )
    assert finding(organization_id) == ("dropped", index)


def test_an_opening_of_nothing(organization_id, chance):
    index = chance.randrange(1, SIZE)
    change("INSERT INTO audit_sealed VALUES (%s, 1, %s, 'note', sha256('x'), 'text')", organization_id, index)
    assert finding(organization_id) == ("inserted", index)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("size = size + 1", ("altered", SIZE)),
        ("size = size - 1", ("altered", SIZE - 1)),
        ("last_hash = sha256('x')", ("altered", SIZE - 1)),
        ("last_at = last_at + interval '1 day'", ("altered", SIZE - 1)),
        ("last_at = '-infinity'", ("altered", SIZE - 1)),
        ("epoch = 2", ("altered", 0)),
        ("origin = origin || 'x'", ("altered", 0)),
    ],
)
def test_a_changed_head(organization_id, column, expected):
    change(f"UPDATE audit_head SET {column} WHERE organization_id = %s", organization_id)
    with pytest.raises(CommandError) as caught:
        verify(organization_id)
    assert f"entry {expected[1]}: {expected[0]}:" in str(caught.value)


def test_what_it_can_not_show_a_whole_ledger_rewritten_with_its_head(organization_id):
    """Only a checkpoint that somebody else holds tells: the rows agree with each other."""
    for table in ("audit_sealed", "audit_entry", "audit_head"):
        change(f"DELETE FROM {table} WHERE organization_id = %s", organization_id)
    ledgers.append(organization_id, 3)
    assert "size 4" in verify(organization_id)
