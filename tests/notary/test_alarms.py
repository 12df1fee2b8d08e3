"""A superuser changes what was signed: the running notary finds it within ten seconds and signs no more of it."""

import contextlib
import hashlib

import pytest

from audit import entry as entry_rules
from tests.notary.stage import tampered, until

SIZE = 300
SECONDS = 10


def one_leaf(superuser, organization_id, index):
    sql = b"SELECT leaf FROM audit_entry WHERE organization_id = %s AND index = %s"
    return superuser.execute(sql, [organization_id, index]).fetchone()[0]


def put_leaf(superuser, organization_id, index, leaf):
    sql = b"UPDATE audit_entry SET leaf = %s WHERE organization_id = %s AND index = %s"
    superuser.execute(sql, [leaf, organization_id, index])


def a_flipped_bit(superuser, organization_id):
    leaf = bytearray(one_leaf(superuser, organization_id, 7))
    leaf[40] ^= 4
    put_leaf(superuser, organization_id, 7, bytes(leaf))
    return "altered", 7


def another_word(superuser, organization_id):
    put_leaf(superuser, organization_id, 299, tampered(one_leaf(superuser, organization_id, 299)))
    return "altered", 299


def a_deleted_entry(superuser, organization_id):
    for table in ("audit_sealed", "audit_entry"):
        superuser.execute(
            f"DELETE FROM {table} WHERE organization_id = %s AND index = 100".encode(), [organization_id]
        )
    return "dropped", 100


def two_swapped(superuser, organization_id):
    sql = b"UPDATE audit_entry SET index = %s WHERE organization_id = %s AND index = %s"
    for old, new in ((10, 1000), (20, 10), (1000, 20)):
        superuser.execute(sql, [new, organization_id, old])
    return "swapped", 10


def one_inserted(superuser, organization_id):
    for table in ("audit_entry", "audit_sealed"):
        for shift in (b"index = index + 1000 WHERE index >= 50", b"index = index - 999 WHERE index >= 1000"):
            sql = b"UPDATE " + table.encode() + b" SET " + shift + b" AND organization_id = %s"
            superuser.execute(sql, [organization_id])
    superuser.execute(
        b"INSERT INTO audit_entry SELECT organization_id, epoch, 50, leaf, act, actor, target, request_id, at "
        b"FROM audit_entry WHERE organization_id = %s AND index = 49",
        [organization_id],
    )
    # The copy can not be told from the one before it.
    return "inserted", 49


def a_cut_tail(superuser, organization_id):
    for table in ("audit_sealed", "audit_entry"):
        superuser.execute(
            f"DELETE FROM {table} WHERE organization_id = %s AND index >= 290".encode(), [organization_id]
        )
    return "dropped", 290


def a_cut_tail_and_its_head(superuser, organization_id):
    a_cut_tail(superuser, organization_id)
    superuser.execute(
        b"UPDATE audit_head h SET size = 290, last_at = e.at, last_hash = sha256('\\x00'::bytea || e.leaf) "
        b"FROM audit_entry e WHERE h.organization_id = %s AND e.organization_id = h.organization_id AND e.index = 289",
        [organization_id],
    )
    return "rolled_back", 290


def a_rewritten_chain(superuser, organization_id):
    """Everything from one entry on told otherwise, by every rule: only what was signed contradicts it."""
    prev = hashlib.sha256(b"\x00" + one_leaf(superuser, organization_id, 249)).digest()
    for index in range(250, SIZE):
        entry = entry_rules.parse(one_leaf(superuser, organization_id, index))
        leaf = entry_rules.build(
            log=entry.log,
            i=index,
            t=entry.t,
            prev=prev,
            act=entry.act,
            actor=entry.actor,
            data={**entry.data, "word": "forged"},
            sealed=entry.sealed,
        )
        put_leaf(superuser, organization_id, index, leaf)
        prev = entry_rules.leaf_hash(leaf)
    sql = b"UPDATE audit_head SET last_hash = %s WHERE organization_id = %s"
    superuser.execute(sql, [prev, organization_id])
    return "rewritten", None


def a_projection(superuser, organization_id):
    sql = b"UPDATE audit_entry SET act = 'key.revoked' WHERE organization_id = %s AND index = 12"
    superuser.execute(sql, [organization_id])
    return "altered", 12


def an_opening(superuser, organization_id):
    sql = b"UPDATE audit_sealed SET value = 'Because' WHERE organization_id = %s AND index = 13"
    superuser.execute(sql, [organization_id])
    return "altered", 13


def a_deleted_ledger(superuser, organization_id):
    for table in ("audit_sealed", "audit_entry", "audit_head"):
        superuser.execute(f"DELETE FROM {table} WHERE organization_id = %s".encode(), [organization_id])
    return "dropped", 0


def a_published_root(superuser, organization_id):
    sql = b"UPDATE audit_checkpoint SET root = sha256('x') WHERE organization_id = %s AND size = %s"
    superuser.execute(sql, [organization_id, SIZE])
    return "checkpoint", None


def a_checkpoint_of_more(superuser, organization_id):
    superuser.execute(
        b"INSERT INTO audit_checkpoint SELECT organization_id, epoch, 100000, root, note, signed_at, published_at "
        b"FROM audit_checkpoint WHERE organization_id = %s AND size = %s",
        [organization_id, SIZE],
    )
    return "checkpoint", None


TAMPERINGS = (
    a_flipped_bit,
    another_word,
    a_deleted_entry,
    two_swapped,
    one_inserted,
    a_cut_tail,
    a_cut_tail_and_its_head,
    a_rewritten_chain,
    a_projection,
    an_opening,
    a_deleted_ledger,
    a_published_root,
    a_checkpoint_of_more,
)


@pytest.mark.timed
class TestTampering:
    def test_each_is_found_within_ten_seconds_and_what_is_left_alone_goes_on(self, stage):
        """All at once, each on a ledger of its own; one notary."""
        sound = stage.new(SIZE)
        ledgers = {tamper: stage.new(SIZE) for tamper in TAMPERINGS}
        with stage.running():
            until(60, lambda: all(stage.signed(each) == SIZE for each in (sound, *ledgers.values())))
            until(60, lambda: stage.pulse()["swept_at"])
            assert stage.alarms() == {}
            with stage.without_triggers() as superuser:
                expected = {each: tamper(superuser, each) for tamper, each in ledgers.items()}
            until(SECONDS, lambda: stage.alarms().keys() >= expected.keys())
            # By then each is also named by the watch that knows most.
            with contextlib.suppress(AssertionError):
                until(SECONDS, lambda: told(stage) == expected)
            assert told(stage) == expected
            names = {tamper.__name__: ledgers[tamper] for tamper in TAMPERINGS}
            stage.append(sound)
            stage.append(names["a_projection"])
            until(SECONDS, lambda: stage.signed(sound) == SIZE + 1)
            assert stage.signed(names["a_projection"]) == SIZE

    def test_it_is_over_when_the_right_bytes_are_back(self, stage):
        organization_id = stage.new(SIZE)
        with stage.running():
            until(60, lambda: stage.signed(organization_id) == SIZE)
            with stage.without_triggers() as superuser:
                right = one_leaf(superuser, organization_id, 7)
                a_flipped_bit(superuser, organization_id)
            until(SECONDS, lambda: stage.alarms().get(organization_id))
            since = stage.alarms()[organization_id]["since"]
            stage.append(organization_id)
            with stage.without_triggers() as superuser:
                put_leaf(superuser, organization_id, 7, right)
            until(SECONDS, lambda: not stage.alarms())
            until(SECONDS, lambda: stage.signed(organization_id) == SIZE + 1)
        events = [line for line in stage.log() if line["event"].startswith("alarm")]
        assert {line["event"] for line in events} == {"alarm", "alarm over"}
        assert {(line["organization"], line["epoch"]) for line in events} == {(organization_id, 1)}
        assert since <= events[0]["timestamp"]


def told(stage):
    return {who: (alarm["kind"], alarm["index"]) for who, alarm in stage.alarms().items()}
