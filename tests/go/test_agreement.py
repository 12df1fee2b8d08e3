"""What only a log's own key can sign: the customers' program and the SDK refuse the same, and name the same entry."""

import base64
import json

import pytest
from keystead.ledger import LedgerError, LedgerTampered, verify_bundle

from audit import entry, note, tree
from tests import offline
from tests.go.cases import THIEF
from tests.offline import Log

KEY = offline.vkey(offline.ORIGIN)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.zip"


@pytest.fixture
def agreed(check_ledger, path):
    """A function from a log to the exit status of both, which must name the same entry."""

    def judge(log, **changed):
        log.write(path, **changed)
        done, status, place = check_ledger(path), 0, ""
        try:
            verify_bundle(path, processes=1)
        except LedgerTampered as error:
            status, place = error.exit_code, f"epoch {error.epoch}, entry {error.index}: {error.fault}: "
        except LedgerError as error:
            status = error.exit_code
        assert (done.returncode, done.stderr.startswith(place)) == (status, True), done.stderr
        return status

    return judge


def rewritten(log, index, change):
    """Change an entry and chain all that follow anew: the log's key signs what comes of it."""
    for place in range(index, len(log.leaves)):
        members = json.loads(log.leaves[place])
        if place > index:
            members["prev"] = base64.b64encode(tree.leaf_hash(log.leaves[place - 1])).decode()
        else:
            change(members)
        text = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        log.leaves[place] = text.encode()
    return log


def sets(**members):
    return lambda found: found.update(members)


def in_data(**members):
    return lambda found: found["data"].update(members)


class TestEntries:
    @pytest.mark.parametrize(
        "change",
        [
            sets(v=2),
            sets(v="1"),
            sets(i=None),
            sets(extra=1),
            lambda found: found.pop("actor"),
            sets(actor="alice@example.com"),
            sets(act="Key.created"),
            sets(act="created"),
            sets(act="ledger.opened"),
            sets(t="2026-02-30T12:00:00.000Z"),
            sets(t="0000-01-01T00:00:00.000Z"),
            sets(t="2026-11-21T12:00:00Z"),
            sets(log=offline.ORIGIN + "/02"),
            sets(prev=None),
            sets(data=[]),
            sets(sealed={}),
            sets(sealed={"email": "A" * 44}),
            sets(sealed={"email": 1}),
            in_data(Target="x"),
            in_data(a=2**53),
            in_data(a="\x00"),
            in_data(a="x" * 2049),
            in_data(a={"b": {"c": {}}}),
            lambda found: (sets(act="ledger.key_added")(found), in_data(vkey="x")(found)),
            lambda found: (sets(act="ledger.key_retired")(found), in_data(vkey=KEY.upper())(found)),
        ],
    )
    def test_what_is_none(self, agreed, change):
        assert agreed(rewritten(Log.of(6), 3, change)) == 1

    def test_the_first_names_a_key_of_a_later_epoch_too(self, agreed):
        log = Log.of(3, offline.ORIGIN + "/2")
        assert agreed(log) == 0
        assert agreed(rewritten(log, 0, in_data(vkey=KEY))) == 1

    @pytest.mark.parametrize(
        ("data", "status"),
        [
            ({"entries": [1], "fields": ["email"]}, 0),
            ({"entries": [1], "fields": ["email"], "epoch": 1}, 0),
            ({"entries": [1], "fields": ["email"], "epoch": 0}, 1),
            ({"entries": [1], "fields": ["email"], "epoch": None}, 1),
            ({"entries": [1, None], "fields": ["email"]}, 1),
            ({"entries": [1], "fields": ["email", None]}, 1),
            ({"entries": [2], "fields": ["email"]}, 1),
            ({"entries": 1, "fields": ["email"]}, 1),
        ],
    )
    def test_what_erases(self, agreed, data, status):
        log = Log.of(3)
        log.append(act="ledger.erasure", data=data)
        del log.openings[0]
        assert agreed(log) == status

    @pytest.mark.parametrize("size", [16_385, 65_536, 100_000])
    def test_one_that_is_too_long(self, agreed, size):
        log = Log.of(4)
        checkpoint = log.checkpoint()
        log.leaves[2] = log.leaves[2].ljust(size)
        assert agreed(log, checkpoint=checkpoint) == 1

    @pytest.mark.parametrize("tail", [b"x", b"x" * 100_000])
    def test_a_last_line_that_does_not_end(self, agreed, tail):
        log = Log.of(4)
        log.leaves, whole = log.leaves[:3], log
        assert agreed(whole, entries=offline.lines(log.leaves) + tail, checkpoint=Log.of(4).checkpoint()) > 0

    def test_a_log_without_one(self, agreed):
        nothing = note.sign(
            note.checkpoint_text(offline.ORIGIN, 0, tree.EMPTY_ROOT), offline.ORIGIN, offline.SIGNING_KEY
        )
        assert agreed(Log(), checkpoint=nothing) == 0
        assert agreed(Log.of(3), old_checkpoint=nothing) == 0
        assert agreed(Log.of(3), checkpoint=nothing) == 1


class TestOpenings:
    @pytest.mark.parametrize(
        ("change", "status"),
        [
            (lambda found: found.update(salt=longer(found["salt"])), 1),
            (lambda found: found.update(salt=found["salt"][:-2] + "B="), 1),
            (lambda found: found.update(Field="email"), 2),
            (lambda found: found.update(i=None), 2),
            (lambda found: found.pop("value"), 2),
        ],
    )
    def test_what_is_none(self, agreed, change, status):
        log = Log.of(4)
        members = json.loads(log.openings[2])
        change(members)
        log.openings[2] = json.dumps(
            members, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()
        assert agreed(log) == status

    def test_one_that_is_there_twice_or_before_its_time(self, agreed):
        log = Log.of(4)
        log.openings.insert(2, log.openings[2])
        assert agreed(log) == 2
        log.openings[2:4] = [log.openings[4], log.openings[2]]
        assert agreed(log) == 2

    def test_entries_are_judged_first(self, agreed):
        log = Log.of(8)
        checkpoint = log.checkpoint()
        log.openings[2] = log.openings[2].replace(b"alice2", b"alice3")
        assert agreed(log, checkpoint=checkpoint) == 1
        log.leaves[6] = log.leaves[6].replace(b"key_6", b"key_7")
        assert agreed(log, checkpoint=checkpoint) == 1


class TestNotes:
    def test_a_second_signature_by_one_key(self, agreed):
        log = Log.of(3)
        good = log.checkpoint()
        line = good.splitlines()[-1]
        assert agreed(log, checkpoint=f"{good}{line}\n") == 0
        assert agreed(log, checkpoint=f"{good}{line[:-10]}AAAAAAAA{line[-2:]}\n") == 3

    def test_a_signature_spelled_otherwise(self, agreed):
        log = Log.of(3)
        good = log.checkpoint().rstrip("\n")
        assert good.endswith("=")
        assert agreed(log, checkpoint=good[:-2] + chr(ord(good[-2]) + 1) + "=\n") == 2

    @pytest.mark.parametrize(
        ("keys", "status"),
        [
            (f"{KEY}\n{KEY}\n", 0),
            (KEY, 2),
            (f" {KEY}\n", 2),
            (f"{KEY}\r\n", 2),
            (f"{KEY}\n" * 101, 2),
            (f"{KEY}\n{offline.vkey(offline.ORIGIN, THIEF)}\n", 0),
            (KEY.replace(KEY.split("+")[1], KEY.split("+")[1].upper()) + "\n", 2),
        ],
    )
    def test_keys(self, agreed, keys, status):
        assert agreed(Log.of(3), vkeys=keys) == status

    @pytest.mark.parametrize("size", [2**53 + 1, 2**63])
    def test_a_size_that_no_log_has(self, agreed, size):
        text = f"{offline.ORIGIN}\n{size}\n{base64.b64encode(entry.genesis_prev()).decode()}\n"
        assert agreed(Log.of(3), checkpoint=note.sign(text, offline.ORIGIN, offline.SIGNING_KEY)) == 2

    def test_an_older_one_that_nobody_signed_is_told_before_the_entries(self, agreed):
        log = Log.of(3)
        checkpoint, older = log.checkpoint(), log.checkpoint(2, THIEF)
        log.leaves[1] = log.leaves[1].replace(b"key_1", b"key_2")
        assert agreed(log, checkpoint=checkpoint, old_checkpoint=older) == 3


def longer(salt):
    """Return a salt that gives the same HMAC: a key is filled up with zeros."""
    return base64.b64encode(base64.b64decode(salt) + b"\x00").decode()
