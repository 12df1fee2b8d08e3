"""Recomputing a ledger: nothing that was touched goes unnamed."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from audit import entry, note
from audit.errors import Fault, LedgerFaulty
from audit.signatures.epochs import Left
from audit.tree import EMPTY_ROOT, root
from audit.verify import Head, Opening, Row, verify

ORGANIZATION = "org_northline"
HOST = "ledger.example"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
START = datetime(2026, 11, 21, 12, 0, 0, 123_000, tzinfo=UTC)


def key_of(log):
    return note.VerifierKey.of(log, KEY).format()


def checkpoint(epoch, size, *, key=None, organization=ORGANIZATION):
    """Return a signed note about an epoch, of which more was signed than is there."""
    log = entry.origin(HOST, organization, epoch)
    return note.sign(note.checkpoint_text(log, size, b"\x09" * 32), log, key or KEY)


def leaf(i, prev, *, epoch=1, act="key.created", data=None, sealed=None, log=None, t=None):
    log = log or entry.origin(HOST, ORGANIZATION, epoch)
    return entry.build(
        log=log,
        i=i,
        t=t or START + timedelta(hours=epoch - 1, seconds=i),
        prev=prev,
        act=act,
        actor="usr_alice",
        data=data or {"target": f"key_{i}", "request_id": f"req_{i}"},
        sealed=sealed,
    )


def row_of(leaf, epoch=1, index=None):
    told = entry.parse(leaf)
    return Row(
        epoch=epoch,
        index=told.i if index is None else index,
        leaf=leaf,
        act=told.act,
        actor=told.actor,
        target=told.data.get("target", ""),
        request_id=told.data.get("request_id", ""),
        at=told.t.replace(tzinfo=None).isoformat(timespec="microseconds"),
    )


class Ledger:
    """What the tables hold of one ledger, for a test to change."""

    def __init__(self, size=8, epochs=1):
        self.rows, self.openings = [], []
        for epoch in range(1, epochs + 1):
            self._open(epoch, size)
        last = self.rows[-1]
        self.head = Head(
            origin=entry.origin(HOST, ORGANIZATION, epochs),
            epoch=epochs,
            size=size,
            last_hash=entry.leaf_hash(last.leaf),
            last_at=last.at,
        )

    def _open(self, epoch, size):
        prev = entry.genesis_prev()
        log = entry.origin(HOST, ORGANIZATION, epoch)
        for i in range(size):
            salt, sealed = bytes([i]) * 32, None
            if i:
                sealed = {name: entry.commit(name, f"Alice {i}", salt) for name in ("email", "name")}
                self.openings += [
                    Opening(epoch=epoch, index=i, field=name, salt=salt, value=f"Alice {i}")
                    for name in sealed
                ]
            act = ("ledger.opened" if epoch == 1 else "ledger.reopened") if i == 0 else "key.created"
            data = self._first(epoch, log) if i == 0 else None
            built = leaf(i, prev, epoch=epoch, act=act, data=data, sealed=sealed)
            self.rows.append(row_of(built, epoch))
            prev = entry.leaf_hash(built)

    def _first(self, epoch, log):
        """Return what the first entry of an epoch says: in the later ones also where the one before was left."""
        if epoch == 1:
            return {"vkey": key_of(log)}
        last = self.rows[-1]
        left = Left(epoch=last.epoch, size=last.index + 1, last=entry.leaf_hash(last.leaf))
        return {"vkey": key_of(log), "left": left.data(), "checkpoint": checkpoint(epoch - 1, last.index + 3)}

    def change(self, index, **columns):
        self.rows[index] = replace(self.rows[index], **columns)

    def change_leaf(self, index, old, new):
        changed = self.rows[index].leaf.replace(old, new)
        assert changed != self.rows[index].leaf
        self.change(index, leaf=changed)

    def close_ranks(self):
        """Number the rows through again, as somebody would who removed or added one."""
        self.rows = [replace(row, index=index) for index, row in enumerate(self.rows)]

    def verify(self):
        return verify(ORGANIZATION, self.head, iter(self.rows), iter(self.openings))

    def fault(self):
        with pytest.raises(LedgerFaulty) as caught:
            self.verify()
        return caught.value.fault, caught.value.index


class TestUntouched:
    @pytest.mark.parametrize("size", [1, 2, 3, 8])
    def test_size_and_root_come_from_the_leaves(self, size):
        ledger = Ledger(size)
        found = ledger.verify()
        assert (found.epoch, found.size) == (1, size)
        assert found.root == root(entry.leaf_hash(row.leaf) for row in ledger.rows)

    def test_an_empty_ledger_has_the_empty_root(self):
        head = replace(Ledger().head, size=0, last_hash=EMPTY_ROOT, last_at="")
        assert verify(ORGANIZATION, head, [], []).root == EMPTY_ROOT

    def test_a_second_epoch_starts_anew(self):
        found = Ledger(4, epochs=2).verify()
        assert (found.epoch, found.size) == (2, 4)

    def test_it_reads_its_rows_once_and_keeps_none(self):
        ledger = Ledger(8)
        alive = 0

        def counted():
            nonlocal alive
            for row in ledger.rows:
                alive += 1
                yield row

        assert verify(ORGANIZATION, ledger.head, counted(), iter(ledger.openings)).size == alive


class TestEntries:
    def test_a_changed_fact(self):
        ledger = Ledger()
        ledger.change_leaf(3, b"req_3", b"req_X")
        assert ledger.fault() == (Fault.ALTERED, 3)

    @pytest.mark.parametrize("index", [1, 3, 6, 7])
    def test_a_changed_fact_with_its_projection(self, index):
        ledger = Ledger()
        ledger.change_leaf(index, b"key_%d" % index, b"key_X")
        ledger.change(index, target="key_X")
        assert ledger.fault() == (Fault.ALTERED, index)

    @pytest.mark.parametrize("index", [1, 3, 7])
    def test_a_changed_prev(self, index):
        ledger = Ledger()
        old = entry.parse(ledger.rows[index].leaf)
        built = leaf(index, bytes(32), sealed=old.sealed)
        ledger.change(index, leaf=built)
        assert ledger.fault() == (Fault.ALTERED, index)

    def test_a_changed_prev_before_bytes_that_are_no_entry(self):
        ledger = Ledger()
        ledger.change(3, leaf=leaf(3, bytes(32), sealed=entry.parse(ledger.rows[3].leaf).sealed))
        ledger.change(4, leaf=b"")
        assert ledger.fault() == (Fault.ALTERED, 3)

    def test_a_changed_index(self):
        ledger = Ledger()
        ledger.change_leaf(3, b'"i":3', b'"i":5')
        assert ledger.fault() == (Fault.ALTERED, 3)

    def test_another_log(self):
        ledger = Ledger()
        ledger.change_leaf(3, b"org_northline", b"org_southline")
        assert ledger.fault() == (Fault.ALTERED, 3)

    def test_time_that_goes_back(self):
        ledger = Ledger(3)
        last = ledger.rows[2]
        built = leaf(2, entry.leaf_hash(ledger.rows[1].leaf), t=START, sealed=entry.parse(last.leaf).sealed)
        ledger.rows[2] = row_of(built)
        ledger.head = replace(ledger.head, last_hash=entry.leaf_hash(built), last_at=ledger.rows[2].at)
        assert ledger.fault() == (Fault.ALTERED, 2)

    def test_another_beginning(self):
        ledger = Ledger(1)
        built = leaf(0, entry.genesis_prev())
        ledger.rows = [row_of(built)]
        ledger.head = replace(ledger.head, last_hash=entry.leaf_hash(built))
        assert ledger.fault() == (Fault.ALTERED, 0)

    @pytest.mark.parametrize("vkey", ["", "a+b", 1, key_of("ledger.example/ledger/org_other")])
    def test_a_beginning_without_a_key_of_this_log(self, vkey):
        ledger = Ledger(1)
        built = leaf(0, entry.genesis_prev(), act="ledger.opened", data={"vkey": vkey})
        ledger.rows = [row_of(built)]
        ledger.head = replace(ledger.head, last_hash=entry.leaf_hash(built))
        assert ledger.fault() == (Fault.ALTERED, 0)

    def test_a_second_beginning(self):
        ledger = Ledger(1)
        built = leaf(
            1,
            ledger.head.last_hash,
            act="ledger.opened",
            data={"vkey": key_of("ledger.example/ledger/org_northline")},
        )
        ledger.rows.append(row_of(built))
        ledger.head = replace(
            ledger.head, size=2, last_hash=entry.leaf_hash(built), last_at=ledger.rows[1].at
        )
        assert ledger.fault() == (Fault.ALTERED, 1)

    def test_bytes_that_are_no_entry(self):
        ledger = Ledger()
        ledger.change(4, leaf=b"\xff" + ledger.rows[4].leaf)
        assert ledger.fault() == (Fault.ALTERED, 4)

    @pytest.mark.parametrize("column", ["act", "actor", "target", "request_id", "at"])
    def test_a_changed_projection(self, column):
        ledger = Ledger()
        ledger.change(4, **{column: "other"})
        assert ledger.fault() == (Fault.ALTERED, 4)


class TestPlaces:
    @pytest.mark.parametrize("index", [0, 3])
    def test_a_dropped_entry(self, index):
        ledger = Ledger()
        del ledger.rows[index]
        assert ledger.fault() == (Fault.DROPPED, index)

    @pytest.mark.parametrize("index", [1, 3])
    def test_a_dropped_entry_and_the_rest_moved_up(self, index):
        ledger = Ledger()
        del ledger.rows[index]
        ledger.close_ranks()
        assert ledger.fault() == (Fault.DROPPED, index)

    def test_a_dropped_tail(self):
        ledger = Ledger()
        del ledger.rows[6:]
        ledger.openings = [opening for opening in ledger.openings if opening.index < 6]
        assert ledger.fault() == (Fault.DROPPED, 6)

    def test_everything_dropped(self):
        ledger = Ledger()
        ledger.rows, ledger.openings = [], []
        assert ledger.fault() == (Fault.DROPPED, 0)

    @pytest.mark.parametrize(("one", "other"), [(2, 3), (2, 6), (1, 7), (6, 7)])
    def test_two_swapped_entries(self, one, other):
        ledger = Ledger()
        first, second = ledger.rows[one], ledger.rows[other]
        ledger.rows[one], ledger.rows[other] = replace(second, index=one), replace(first, index=other)
        assert ledger.fault() == (Fault.SWAPPED, one)

    @pytest.mark.parametrize("index", [1, 4, 7])
    @pytest.mark.parametrize("fits", [True, False])
    def test_an_inserted_entry_and_the_rest_moved_down(self, index, fits):
        ledger = Ledger()
        prev = entry.leaf_hash(ledger.rows[index - 1].leaf) if fits else bytes(32)
        ledger.rows.insert(index, row_of(leaf(index, prev, t=START + timedelta(seconds=index - 1))))
        ledger.close_ranks()
        ledger.openings = [
            replace(opening, index=opening.index + (opening.index >= index)) for opening in ledger.openings
        ]
        assert ledger.fault() == (Fault.INSERTED, index)

    @pytest.mark.parametrize("index", [8, 20])
    def test_an_entry_behind_the_end(self, index):
        ledger = Ledger()
        ledger.rows.append(row_of(leaf(index, ledger.head.last_hash)))
        assert ledger.fault() == (Fault.INSERTED, index)

    def test_an_epoch_that_was_never_opened(self):
        ledger = Ledger()
        ledger.rows.append(replace(ledger.rows[0], epoch=2))
        assert ledger.fault() == (Fault.INSERTED, 0)

    def test_a_dropped_second_epoch(self):
        ledger = Ledger(4, epochs=2)
        ledger.rows, ledger.openings = ledger.rows[:4], ledger.openings[:6]
        assert ledger.fault() == (Fault.DROPPED, 4)


class TestReopened:
    """The entry that opens a new epoch keeps the old one from being cut, and carries its last checkpoint."""

    def place(self, ledger):
        with pytest.raises(LedgerFaulty) as caught:
            ledger.verify()
        return caught.value.fault, caught.value.epoch, caught.value.index

    def say(self, **data):
        """Return a ledger of two epochs, four entries and one, whose second opens with other data."""
        ledger = Ledger(4)
        log = entry.origin(HOST, ORGANIZATION, 2)
        told = ledger._first(2, log) | data
        built = leaf(0, entry.genesis_prev(), epoch=2, act="ledger.reopened", data=told)
        ledger.rows.append(row_of(built, 2))
        ledger.head = Head(
            origin=log, epoch=2, size=1, last_hash=entry.leaf_hash(built), last_at=ledger.rows[-1].at
        )
        return ledger

    def test_it_fits(self):
        assert self.say().verify().epoch == 2
        assert Ledger(3, epochs=4).verify().epoch == 4

    @pytest.mark.parametrize("left", [1, 3])
    def test_the_old_epochs_end_cut_off(self, left):
        ledger = Ledger(4, epochs=3)
        ledger.rows = ledger.rows[:left] + ledger.rows[4:]
        ledger.openings = ledger.openings[: 2 * (left - 1)] + ledger.openings[6:]
        assert self.place(ledger) == (Fault.DROPPED, 1, left)

    def test_a_whole_epoch_taken_out(self):
        ledger = Ledger(4, epochs=3)
        ledger.rows, ledger.openings = ledger.rows[:4] + ledger.rows[8:], ledger.openings[:6]
        assert self.place(ledger) == (Fault.DROPPED, 3, 0)

    def test_one_more_entry_in_the_old_epoch(self):
        ledger = Ledger(4, epochs=2)
        ledger.rows.insert(4, row_of(leaf(4, entry.leaf_hash(ledger.rows[3].leaf))))
        assert self.place(ledger) == (Fault.INSERTED, 1, 4)

    def test_the_old_epochs_last_entry_changed(self):
        ledger = Ledger(4, epochs=2)
        last = ledger.rows[3]
        built = last.leaf.replace(b"usr_alice", b"usr_mallo")
        ledger.change(3, leaf=built, actor="usr_mallo")
        assert self.place(ledger) == (Fault.ALTERED, 1, 3)

    def test_epochs_in_between_may_be_lost(self):
        """A backup from before the last reopening: what is left says so, and the note is of what is lost."""
        ledger = Ledger(4)
        log, last = entry.origin(HOST, ORGANIZATION, 3), ledger.rows[-1]
        left = Left(epoch=1, size=4, last=entry.leaf_hash(last.leaf))
        data = {"vkey": key_of(log), "left": left.data(), "checkpoint": checkpoint(2, 9)}
        built = leaf(0, entry.genesis_prev(), epoch=3, act="ledger.reopened", data=data)
        ledger.rows.append(row_of(built, 3))
        ledger.head = Head(
            origin=log, epoch=3, size=1, last_hash=entry.leaf_hash(built), last_at=ledger.rows[-1].at
        )
        assert (ledger.verify().epoch, ledger.verify().size) == (3, 1)

    @pytest.mark.parametrize(
        "data",
        [
            {"checkpoint": checkpoint(1, 6, key=STRANGER)},
            {"checkpoint": checkpoint(2, 6)},
            {"checkpoint": checkpoint(1, 6, organization="org_other")},
            {"checkpoint": checkpoint(1, 6).replace("6", "7", 1)},
            {"checkpoint": ""},
            {"checkpoint": None},
            {"checkpoint": 7},
            {"vkey": key_of(entry.origin(HOST, ORGANIZATION, 1))},
            {"vkey": None},
        ],
    )
    def test_what_it_carries_is_no_earlier_epochs(self, data):
        assert self.place(self.say(**data)) == (Fault.ALTERED, 2, 0)

    @pytest.mark.parametrize("left", [None, 4, {}, {"epoch": 1, "size": "4"}, {"epoch": 0, "size": 4}])
    def test_it_says_nothing_of_where_the_old_epoch_ended(self, left):
        assert self.place(self.say(left=left)) == (Fault.DROPPED, 2, 0)

    def test_a_key_that_the_old_epoch_announced_will_do(self):
        log = entry.origin(HOST, ORGANIZATION, 2)
        other = note.VerifierKey.of(log, STRANGER).format()
        assert self.say(vkey=other).verify().epoch == 2
        signed = checkpoint(1, 6, key=STRANGER)
        assert self.say(vkey=other, checkpoint=signed).verify().epoch == 2

    def test_it_is_older_than_the_old_epochs_end(self):
        ledger = Ledger(4)
        log = entry.origin(HOST, ORGANIZATION, 2)
        data = ledger._first(2, log)
        built = leaf(0, entry.genesis_prev(), epoch=2, act="ledger.reopened", data=data, t=START)
        ledger.rows.append(row_of(built, 2))
        ledger.head = Head(
            origin=log, epoch=2, size=1, last_hash=entry.leaf_hash(built), last_at=ledger.rows[-1].at
        )
        assert self.place(ledger) == (Fault.ALTERED, 2, 0)


class TestKeys:
    @pytest.mark.parametrize("act", ["ledger.key_added", "ledger.key_retired"])
    def test_an_entry_about_a_key_of_another_log(self, act):
        ledger = Ledger(3)
        data = {"target": "x", "vkey": key_of(entry.origin(HOST, "org_other"))}
        built = leaf(3, ledger.head.last_hash, act=act, data=data)
        ledger.rows.append(row_of(built))
        ledger.head = replace(
            ledger.head, size=4, last_hash=entry.leaf_hash(built), last_at=ledger.rows[-1].at
        )
        assert ledger.fault() == (Fault.ALTERED, 3)


class TestHead:
    def test_none(self):
        ledger = Ledger()
        ledger.head = None
        assert ledger.fault() == (Fault.DROPPED, 0)

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"size": 9}, (Fault.ALTERED, 8)),
            ({"size": 7}, (Fault.ALTERED, 7)),
            ({"size": 0, "last_hash": EMPTY_ROOT}, (Fault.INSERTED, 0)),
            ({"size": 0}, (Fault.ALTERED, 0)),
            ({"last_hash": bytes(32)}, (Fault.ALTERED, 7)),
            ({"last_at": "2026-01-01T00:00:00.000000"}, (Fault.ALTERED, 7)),
            ({"origin": "ledger.example/ledger/org_other"}, (Fault.ALTERED, 0)),
            ({"origin": "other.example/ledger/org_northline"}, (Fault.ALTERED, 0)),
            ({"origin": ""}, (Fault.ALTERED, 0)),
            ({"epoch": 2, "origin": "ledger.example/ledger/org_northline/2"}, (Fault.DROPPED, 8)),
        ],
    )
    def test_a_changed_head(self, change, expected):
        ledger = Ledger()
        ledger.head = replace(ledger.head, **change)
        assert ledger.fault() == expected


class TestOpenings:
    @pytest.mark.parametrize("change", [{"value": "Mallory"}, {"salt": bytes(32)}, {"salt": b""}])
    def test_a_changed_opening(self, change):
        ledger = Ledger()
        ledger.openings[4] = replace(ledger.openings[4], **change)
        assert ledger.fault() == (Fault.ALTERED, 3)

    @pytest.mark.parametrize("change", [{"field": "note"}, {"index": 0}, {"index": 9}, {"epoch": 2}])
    def test_an_opening_of_nothing(self, change):
        ledger = Ledger()
        ledger.openings.append(replace(ledger.openings[-1], **change))
        ledger.openings.sort(key=lambda opening: opening.position)
        assert ledger.fault()[0] == Fault.INSERTED

    @pytest.mark.parametrize("which", [0, 5, -1])
    def test_a_missing_opening(self, which):
        ledger = Ledger()
        gone = ledger.openings.pop(which)
        assert ledger.fault() == (Fault.DROPPED, gone.index)


@given(st.randoms(use_true_random=False))
def test_any_single_flipped_bit_of_any_leaf_is_found_at_its_entry(chance: random.Random):
    ledger = Ledger(6)
    index = chance.randrange(6)
    leaf_bytes = bytearray(ledger.rows[index].leaf)
    leaf_bytes[chance.randrange(len(leaf_bytes))] ^= 1 << chance.randrange(8)
    ledger.change(index, leaf=bytes(leaf_bytes))
    with pytest.raises(LedgerFaulty) as caught:
        ledger.verify()
    assert caught.value.index == index


class TestErased:
    """An opening may be missing where a later entry of the same ledger says that it was erased."""

    def ledger(self, *erasures, gone, size=8, epochs=1):
        """Return a ledger that ends with erasures, without the openings (epoch, index, field) that are gone."""
        ledger = Ledger(size, epochs)
        for data in erasures:
            last = ledger.rows[-1]
            built = leaf(
                last.index + 1,
                entry.leaf_hash(last.leaf),
                epoch=last.epoch,
                act="ledger.erasure",
                data={"target": "usr_alice", **data},
            )
            ledger.rows.append(row_of(built, last.epoch))
        last = ledger.rows[-1]
        ledger.head = replace(
            ledger.head, size=last.index + 1, last_hash=entry.leaf_hash(last.leaf), last_at=last.at
        )
        ledger.openings = [o for o in ledger.openings if (o.epoch, o.index, o.field) not in gone]
        return ledger

    def test_what_an_erasure_names_may_be_missing(self):
        gone = {(1, 2, "email"), (1, 5, "email")}
        assert self.ledger({"entries": [2, 5], "fields": ["email"]}, gone=gone).verify().size == 9

    def test_it_may_be_there_all_the_same(self):
        assert self.ledger({"entries": [2, 5], "fields": ["email"]}, gone=set()).verify().size == 9

    @pytest.mark.parametrize(
        "data",
        [
            {"entries": [2], "fields": ["name"]},
            {"entries": [3], "fields": ["email"]},
            {"entries": [2], "fields": ["email"], "epoch": 2},
            {"entries": [-2, 2**53 - 1], "fields": ["email"]},
            {"entries": ["2"], "fields": ["email"]},
            {"entries": [True], "fields": ["email"]},
            {"entries": 2, "fields": ["email"]},
            {"entries": [2], "fields": "email"},
            {"entries": [2], "fields": [1]},
            {"entries": [2], "fields": ["email"], "epoch": "1"},
            {"fields": ["email"]},
            {},
        ],
    )
    def test_what_none_names_may_not(self, data):
        assert self.ledger(data, gone={(1, 2, "email")}).fault() == (Fault.DROPPED, 2)

    def test_an_erasure_means_nothing_that_comes_after_it(self):
        ledger = self.ledger(
            {"entries": [9], "fields": ["email"]},
            {"entries": [1], "fields": ["email"]},
            gone={(1, 1, "email")},
        )
        assert ledger.verify().size == 10
        salt = bytes(32)
        last = ledger.rows[-2]
        sealed = {"email": entry.commit("email", "x@example.com", salt)}
        built = leaf(9, entry.leaf_hash(last.leaf), sealed=sealed)
        ledger.rows[-1] = row_of(built)
        ledger.head = replace(ledger.head, last_hash=entry.leaf_hash(built), last_at=ledger.rows[-1].at)
        ledger.openings.append(
            Opening(epoch=1, index=1, field="email", salt=bytes([1]) * 32, value="Alice 1")
        )
        ledger.openings.sort(key=lambda o: (o.epoch, o.index, o.field))
        assert ledger.fault() == (Fault.DROPPED, 9)

    def test_one_of_an_older_epoch_says_which(self):
        gone = {(1, 3, "name")}
        erasure = {"entries": [3], "fields": ["name"]}
        assert self.ledger({**erasure, "epoch": 1}, gone=gone, epochs=2).verify().epoch == 2
        assert self.ledger(erasure, gone=gone, epochs=2).fault() == (Fault.DROPPED, 3)

    def test_the_first_fault_of_the_openings_is_named(self):
        ledger = self.ledger({"entries": [6], "fields": ["name"]}, gone={(1, 2, "email"), (1, 6, "name")})
        at = next(i for i, o in enumerate(ledger.openings) if (o.index, o.field) == (4, "email"))
        ledger.openings[at] = replace(ledger.openings[at], value="Mallory")
        assert ledger.fault() == (Fault.DROPPED, 2)
        ledger.openings = [o for o in ledger.openings if o.index > 2]
        assert ledger.fault() == (Fault.DROPPED, 1)
