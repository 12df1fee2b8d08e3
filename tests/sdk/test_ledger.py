"""The offline verifier: known answers, and every fault by the name that the portal's own verifier gives it."""

import base64
import os
import subprocess
import sys
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from keystead import ConfigurationError
from keystead.ledger import (
    BundleMalformed,
    CheckpointInconsistent,
    LedgerTampered,
    NoteUntrusted,
    open_checkpoint,
    verify_bundle,
    workers,
)
from keystead.ledger.note import parse_keys
from keystead.ledger.tree import Tree, leaf_hash

from audit import note
from tests import offline
from tests.offline import Log, lines
from tests.sdk.conftest import SOURCES
from tests.vectors import load

KNOWN = load("ledger")
LEAVES = [leaf.encode() for leaf in KNOWN["leaves"]]
SIZE = 6_000
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.zip"


@pytest.fixture(scope="module")
def long():
    return Log.of(SIZE)


@pytest.fixture
def log():
    return Log.of(9)


def verify(log, path, **changed):
    return verify_bundle(log.write(path, **changed))


def fault(log, path, checkpoint, **changed):
    with pytest.raises(LedgerTampered) as caught:
        verify(log, path, checkpoint=checkpoint, **changed)
    assert caught.value.exit_code == 1
    assert str(caught.value).startswith(f"epoch 1, entry {caught.value.index}: {caught.value.fault}: ")
    return caught.value.fault, caught.value.index


class TestKnownAnswers:
    def members(self, **changed):
        salt = base64.b64encode(bytes.fromhex(KNOWN["salt"])).decode()
        return {
            "vkeys": f"{KNOWN['vkey1']}\n{KNOWN['vkey2']}\n",
            "checkpoint": KNOWN["checkpoint5"],
            "old-checkpoint": KNOWN["checkpoint3"],
            "entries.jsonl": lines(LEAVES),
            "sealed.jsonl": f'{{"field":"email","i":1,"salt":"{salt}","value":"ada@example.com"}}\n',
            **changed,
        }

    def test_leaves_and_roots(self):
        tree = Tree()
        assert tree.root().hex() == KNOWN["roots"][0] == KNOWN["rfc6962_roots"][0]
        for leaf, leaf_hex, root in zip(LEAVES, KNOWN["leaf_hashes"], KNOWN["roots"][1:], strict=True):
            assert leaf_hash(leaf).hex() == leaf_hex
            tree.append(leaf_hash(leaf))
            assert tree.root().hex() == root

    def test_the_bundle_of_the_known_log(self, path):
        found = verify_bundle(offline.write(path, self.members()))
        assert (found.checkpoint.size, found.checkpoint.root.hex()) == (5, KNOWN["roots"][5])
        assert [old.size for old in found.older] == [3]
        assert (found.opened, found.erased, found.is_pinned) == (1, 0, False)
        assert list(map(str, found.checkpoint.signers)) == [KNOWN["vkey1"], KNOWN["vkey2"]]

    def test_its_opening_was_erased(self, path):
        found = verify_bundle(offline.write(path, self.members(**{"sealed.jsonl": ""})))
        assert (found.opened, found.erased) == (0, 1)

    @pytest.mark.parametrize("vkeys", [["vkey1"], ["vkey2"], ["vkey2", "vkey1"]])
    def test_unknown_signatures_are_ignored(self, path, vkeys):
        members = self.members()
        del members["old-checkpoint"]
        found = verify_bundle(offline.write(path, members), vkeys=[KNOWN[name] for name in vkeys])
        assert found.is_pinned
        assert list(map(str, found.checkpoint.signers)) == [KNOWN[name] for name in sorted(vkeys)]

    def test_a_key_of_another_algorithm_is_refused(self, path):
        with pytest.raises(BundleMalformed):
            verify_bundle(offline.write(path, self.members()), vkeys=[KNOWN["wkey"]])

    def test_a_known_key_whose_signature_fails_refuses_the_whole_note(self):
        keys = parse_keys([KNOWN["vkey1"], KNOWN["vkey2"]])
        text, _, signatures = KNOWN["checkpoint5"].rpartition("\n\n")
        first, second, _witness, _ = signatures.split("\n")
        good = f"{text}\n\n{first}\n".encode()
        assert open_checkpoint(good, keys).size == 5
        dash, name, octets = second.split(" ")
        forged = bytearray(base64.b64decode(octets))
        forged[-1] ^= 1
        bad = f"{text}\n\n{first}\n{dash} {name} {base64.b64encode(forged).decode()}\n".encode()
        with pytest.raises(NoteUntrusted, match="claims"):
            open_checkpoint(bad, keys)
        assert open_checkpoint(bad, keys[:1]).size == 5


class TestGood:
    @pytest.mark.parametrize("size", [1, 2, 3, 9, 1_200])
    def test_size_root_and_openings(self, path, size):
        found = verify(Log.of(size), path)
        assert found.checkpoint.size == size
        assert found.opened == 2 * (size - 1)

    def test_a_log_of_nothing(self, path):
        assert verify(Log(), path).checkpoint.size == 0

    def test_a_later_epoch(self, path):
        log = Log.of(3, offline.ORIGIN + "/2")
        assert verify(log, path).checkpoint.epoch == 2
        log.leaves[1] += b" "
        with pytest.raises(LedgerTampered) as caught:
            verify(log, path, checkpoint=Log.of(3, offline.ORIGIN + "/2").checkpoint())
        assert caught.value.epoch == 2

    def test_older_checkpoints(self, log, path):
        log.write(path, old_checkpoint=log.checkpoint(4))
        found = verify_bundle(path, older=[log.checkpoint(size).encode() for size in (0, 1, 9)])
        assert [old.size for old in found.older] == [4, 0, 1, 9]

    def test_it_changes_nothing_on_the_disk(self, log, path):
        log.write(path)
        before = path.read_bytes()
        verify_bundle(path)
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]


class TestEntries:
    @pytest.mark.parametrize("index", [0, 1, 4, 7, 8])
    def test_an_entry_told_otherwise(self, log, path, index):
        checkpoint = log.checkpoint()
        old, new = (b"sys_portal", b"sys_mallor") if index == 0 else (b"usr_alice", b"usr_mallo")
        log.leaves[index] = log.leaves[index].replace(old, new)
        assert fault(log, path, checkpoint) == ("altered", index)

    @pytest.mark.parametrize("index", [0, 4, 8])
    def test_bytes_that_are_no_entry(self, log, path, index):
        checkpoint = log.checkpoint()
        log.leaves[index] = log.leaves[index].replace(b":", b": ", 1)
        assert fault(log, path, checkpoint) == ("altered", index)

    @pytest.mark.parametrize("index", [0, 4, 7, 8])
    def test_a_dropped_entry(self, log, path, index):
        checkpoint = log.checkpoint()
        del log.leaves[index]
        assert fault(log, path, checkpoint) == ("dropped", index)

    @pytest.mark.parametrize("size", [0, 1, 8])
    def test_a_cut_tail(self, log, path, size):
        checkpoint = log.checkpoint()
        del log.leaves[size:]
        assert fault(log, path, checkpoint) == ("dropped", size)

    @pytest.mark.parametrize(("one", "other"), [(1, 2), (0, 5), (3, 7), (7, 8), (1, 8)])
    def test_swapped_entries(self, log, path, one, other):
        checkpoint = log.checkpoint()
        log.leaves[one], log.leaves[other] = log.leaves[other], log.leaves[one]
        assert fault(log, path, checkpoint)[1] == one

    @pytest.mark.parametrize("index", [1, 5, 8])
    def test_an_inserted_entry(self, log, path, index):
        checkpoint = log.checkpoint()
        log.leaves.insert(index, log.leaves[index].replace(b"usr_alice", b"usr_mallo"))
        assert fault(log, path, checkpoint) == ("inserted", index)

    def test_an_entry_behind_the_last(self, log, path):
        checkpoint = log.checkpoint()
        log.append()
        assert fault(log, path, checkpoint) == ("inserted", 9)

    @pytest.mark.parametrize("rest", [b"", b"garbage\n", b"\n\n"])
    def test_more_than_was_signed(self, path, rest):
        log = Log.of(5)
        short = log.checkpoint(3)
        assert fault(log, path, short, entries=lines(log.leaves) + rest) == ("inserted", 3)

    def test_a_rewritten_end(self, log, path):
        """The chain fits; only the root tells."""
        checkpoint = log.checkpoint()
        rewritten = Log(log.leaves[:6], log.openings[:10])
        for index in range(6, 9):
            rewritten.append(data={"target": f"key_{index}", "name": "other"})
        assert fault(rewritten, path, checkpoint) == ("altered", 8)

    def test_the_last_but_one_altered(self, log, path):
        """Nobody refers to the last: the root says that it is genuine, and so who is not."""
        checkpoint = log.checkpoint()
        log.leaves[7] = log.leaves[7].replace(b"usr_alice", b"usr_mallo")
        assert fault(log, path, checkpoint) == ("altered", 7)

    def test_a_prev_altered_at_the_end(self, log, path):
        checkpoint = log.checkpoint()
        prev = base64.b64encode(leaf_hash(log.leaves[7]))
        log.leaves[8] = log.leaves[8].replace(prev, base64.b64encode(bytes(32)))
        assert fault(log, path, checkpoint) == ("altered", 8)

    def test_time_that_goes_back(self, log, path):
        log.append(t=offline.START + timedelta(seconds=3))
        assert fault(log, path, log.checkpoint()) == ("altered", 9)

    def test_another_log(self, log, path):
        log.leaves[3] = log.leaves[3].replace(b"org_northline", b"org_southline")
        assert fault(log, path, log.checkpoint()) == ("altered", 3)

    def test_another_beginning(self, path):
        log = Log()
        log.append()
        assert fault(log, path, log.checkpoint()) == ("altered", 0)

    @pytest.mark.parametrize("vkey", [1, "", "a+b", offline.vkey("ledger.example/ledger/org_other")])
    def test_a_beginning_without_a_key_of_this_log(self, path, vkey):
        log = Log()
        log.append(act="ledger.opened", data={"vkey": vkey})
        assert fault(log, path, log.checkpoint()) == ("altered", 0)

    def test_a_second_beginning(self, log, path):
        log.append(act="ledger.opened", data={"vkey": offline.vkey(offline.ORIGIN)})
        assert fault(log, path, log.checkpoint()) == ("altered", 9)


class TestOpenings:
    def test_another_value(self, log, path):
        log.openings[6] = log.openings[6].replace(b"alice4", b"alice5")
        assert fault(log, path, log.checkpoint()) == ("altered", 4)

    @pytest.mark.parametrize("salt", [bytes(31), bytes(32), b""])
    def test_another_salt(self, log, path, salt):
        log.openings[6] = offline.opening(4, "email", salt, "alice4@example.com")
        assert fault(log, path, log.checkpoint()) == ("altered", 4)

    @pytest.mark.parametrize("place", [0, 7, 15])
    def test_one_is_missing(self, log, path, place):
        del log.openings[place]
        assert fault(log, path, log.checkpoint()) == ("dropped", place // 2 + 1)

    @pytest.mark.parametrize(
        ("index", "name"), [(0, "email"), (3, "note"), (8, "note"), (9, "email"), (2**53 - 1, "x")]
    )
    def test_one_of_nothing(self, log, path, index, name):
        added = offline.opening(index, name, bytes(32), "text")
        log.openings.insert(2 * index if index < 9 else 16, added)
        assert fault(log, path, log.checkpoint()) == ("inserted", index)

    def test_erased_only_where_a_later_entry_says_so(self, log, path):
        del log.openings[2 * 4 - 2]
        log.append(act="ledger.erasure", data={"target": "usr_alice", "entries": [2, 4], "fields": ["email"]})
        assert verify(log, path).erased == 1
        del log.openings[0]
        assert fault(log, path, log.checkpoint()) == ("dropped", 1)

    def test_an_erasure_of_another_field(self, log, path):
        del log.openings[2 * 4 - 2]
        log.append(act="ledger.erasure", data={"target": "usr_alice", "entries": [4], "fields": ["name"]})
        assert fault(log, path, log.checkpoint()) == ("dropped", 4)

    def test_an_erasure_before_the_entry(self, path):
        log = Log.of(2)
        log.append(act="ledger.erasure", data={"target": "usr_alice", "entries": [1, 3], "fields": ["email"]})
        log.append(sealed={"email": "bob@example.com"})
        log.openings.pop()
        assert fault(log, path, log.checkpoint()) == ("dropped", 3)

    @pytest.mark.parametrize(
        "data", [{}, {"entries": 4, "fields": "email"}, {"entries": [True, "4", None], "fields": [1]}]
    )
    def test_an_erasure_that_names_nothing(self, log, path, data):
        del log.openings[2 * 4 - 2]
        log.append(act="ledger.erasure", data={"target": "usr_alice", **data})
        assert fault(log, path, log.checkpoint()) == ("dropped", 4)


class TestNotes:
    def test_a_witness_alone_is_not_the_log(self, log, path):
        text = log.checkpoint().partition("\n\n")[0] + "\n"
        witness = "witness.example/w1"
        log.write(path, checkpoint=note.sign(text, witness, OTHER_KEY))
        with pytest.raises(NoteUntrusted, match="own key"):
            verify_bundle(path, vkeys=[offline.vkey(witness, OTHER_KEY), offline.vkey(log.origin)])

    def test_the_bundle_is_signed_by_another(self, log, path):
        with pytest.raises(NoteUntrusted) as caught:
            verify(log, path, checkpoint=log.checkpoint(None, OTHER_KEY))
        assert caught.value.exit_code == 3

    def test_pinned_keys_replace_the_bundles(self, log, path):
        log.write(
            path,
            checkpoint=log.checkpoint(None, OTHER_KEY),
            vkeys=offline.vkey(offline.ORIGIN, OTHER_KEY) + "\n",
        )
        assert not verify_bundle(path).is_pinned
        with pytest.raises(NoteUntrusted):
            verify_bundle(path, vkeys=[offline.vkey(offline.ORIGIN)])

    def test_another_logs_checkpoint_under_this_ones_name(self, log, path):
        """One key serves all logs, and signs the text alone: the name beside the signature can be changed."""
        other = Log.of(3, "ledger.example/ledger/org_other")
        relabelled = other.checkpoint().replace(f"— {other.origin} ", f"— {log.origin} ")
        key_id = parse_keys([offline.vkey(log.origin)])[0].id
        octets = base64.b64decode(relabelled.split(" ")[-1])
        relabelled = relabelled.replace(
            relabelled.split(" ")[-1], base64.b64encode(key_id + octets[4:]).decode() + "\n"
        )
        with pytest.raises(NoteUntrusted, match="own key"):
            verify(log, path, checkpoint=relabelled)

    @pytest.mark.parametrize(
        ("older", "words"), [("rewritten", "another root"), ("newer", "entries"), ("other", "another log")]
    )
    def test_not_a_continuation(self, log, path, older, words):
        rewritten = Log(log.leaves[:2])
        rewritten.append(data={"target": "x"})
        longer = Log.of(12)
        other = Log.of(3, "ledger.example/ledger/org_other")
        note = {"rewritten": rewritten, "newer": longer, "other": other}[older].checkpoint()
        log.write(
            path, vkeys=f"{offline.vkey(log.origin)}\n{offline.vkey(other.origin)}\n", old_checkpoint=note
        )
        with pytest.raises(CheckpointInconsistent, match=words) as caught:
            verify_bundle(path)
        assert caught.value.exit_code == 4

    def test_an_older_checkpoint_that_nobody_signed(self, log, path):
        log.write(path)
        with pytest.raises(NoteUntrusted):
            verify_bundle(path, older=[log.checkpoint(4, OTHER_KEY).encode()])


class TestManyProcesses:
    def test_they_find_what_one_finds(self, long, path):
        long.write(path)
        assert verify_bundle(path, processes=3) == verify_bundle(path, processes=1)

    @pytest.mark.parametrize("index", [0, 1, 600, 601, 602, 3_000, SIZE - 2, SIZE - 1])
    def test_a_fault_wherever_the_log_is_cut(self, long, path, index):
        changed = Log(list(long.leaves), long.openings)
        old, new = (b"sys_portal", b"sys_mallor") if index == 0 else (b"usr_alice", b"usr_mallo")
        changed.leaves[index] = changed.leaves[index].replace(old, new)
        changed.write(path, checkpoint=long.checkpoint())
        for processes in (1, 2):
            with pytest.raises(LedgerTampered) as caught:
                verify_bundle(path, processes=processes)
            assert (caught.value.fault, caught.value.index) == ("altered", index)

    def test_older_checkpoints_at_every_cut(self, long, path):
        long.write(path)
        sizes = [1, 599, 2_048, SIZE - 1, SIZE]
        found = verify_bundle(path, older=[long.checkpoint(size).encode() for size in sizes], processes=2)
        assert [old.size for old in found.older] == sizes

    @pytest.mark.parametrize("executable", ["", "/nonexistent", "/bin/false", "/bin/true"])
    def test_where_none_can_be_started(self, long, path, monkeypatch, executable):
        monkeypatch.setattr(sys, "executable", executable)
        assert verify_bundle(long.write(path), processes=2).checkpoint.size == SIZE

    def test_where_one_is_killed(self, long, path, monkeypatch):
        started = []

        class Dying(subprocess.Popen):
            def __init__(self, *arguments, **options):
                super().__init__(*arguments, **options)
                started.append(self)

        monkeypatch.setattr(workers.subprocess, "Popen", Dying)
        found = verify_bundle(long.write(path), processes=2, progress=lambda _: started[0].kill())
        assert found.checkpoint.size == SIZE
        assert [each.poll() for each in started] == [-9, -9]

    def test_nothing_of_the_folder_is_run(self, long, path, tmp_path, monkeypatch):
        for name in ("json.py", "marshal.py", "keystead.py", "sitecustomize.py"):
            (tmp_path / name).write_text("open('ran', 'w').close()\n")
        monkeypatch.chdir(tmp_path)
        assert verify_bundle(long.write(path), processes=2).checkpoint.size == SIZE
        assert not (tmp_path / "ran").exists()


def test_without_cryptography_it_says_what_to_install(log, path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    with pytest.raises(ConfigurationError, match=r"keystead\[crypto\]"):
        verify(log, path)


def test_it_does_not_import_the_portal():
    code = "import keystead.cli, keystead.ledger, sys; print(*{name.split('.')[0] for name in sys.modules})"
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert not {"audit", "orgs", "keys", "portal", "django", "rfc8785"} & set(loaded.split())


def test_a_key_that_is_none(log, path):
    with pytest.raises(BundleMalformed):
        verify_bundle(log.write(path), vkeys=["nonsense"])
