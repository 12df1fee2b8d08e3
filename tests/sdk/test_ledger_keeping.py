"""Checkpoints that are kept: what comes later must continue them, and be signed by whom was known."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from keystead.ledger.errors import BundleMalformed, CheckpointInconsistent, LedgerError, NoteUntrusted
from keystead.ledger.keeping import Folder
from keystead.ledger.proof import verify_proof
from keystead.ledger.tree import Tree, root_from_path, verify_consistency

from audit import tree
from audit.proofs import proof
from tests import offline
from tests.offline import ORIGIN, Log, vkey
from tests.vectors import load

OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
KNOWN = load("ledger")
HASHES = [tree.leaf_hash(bytes([number % 256])) for number in range(70)]


def never(old, new):
    raise AssertionError("nothing was to be proven")


def proving(log):
    """What a portal proves of a log."""

    def consistency(old, new):
        hashes = [tree.leaf_hash(leaf) for leaf in log.leaves]

        def node(level, index):
            return tree.root(hashes[index << level : index + 1 << level])

        return tree.consistency(old, new, node)

    return consistency


@pytest.fixture
def log():
    return Log.of(3)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "kept")


def keep(folder, log, *keys, told=None, **options):
    consistency = options.pop("consistency", proving(log))
    announced = told or [vkey(log.origin, key) for key in keys or [offline.SIGNING_KEY]]
    return folder.keep(log.checkpoint(None, *keys).encode(), announced, consistency, **options)


def names(folder):
    return sorted(path.name for path in folder.path.iterdir())


class TestKeeping:
    def test_the_first_is_believed_and_the_next_must_continue_it(self, folder, log):
        first = keep(folder, log, consistency=never)
        assert (first.checkpoint.size, first.before, first.is_pinned) == (3, None, False)
        for _ in range(5):
            log.append()
        second = keep(folder, log)
        assert (second.checkpoint.size, second.before.size, second.is_pinned) == (8, 3, True)
        assert names(folder) == ["1-3.checkpoint", "1-8.checkpoint", "vkeys"]
        assert folder.notes(1) == [log.checkpoint(3).encode(), log.checkpoint(8).encode()]

    def test_the_same_again_changes_nothing(self, folder, log):
        keep(folder, log)
        before = [(path, path.stat().st_mtime_ns) for path in folder.path.iterdir()]
        assert keep(folder, log, consistency=never).before.size == 3
        assert [(path, path.stat().st_mtime_ns) for path in folder.path.iterdir()] == before

    @pytest.mark.parametrize("size", [2, 3, 6])
    def test_another_past(self, folder, log, size):
        keep(folder, log)
        other = Log(log.leaves[:1])
        while len(other.leaves) < size:
            other.append(data={"target": "other"})
        with pytest.raises(CheckpointInconsistent, match=r"inconsistent-1-\d-"):
            keep(folder, other)
        (evidence,) = folder.path.glob("inconsistent-*")
        assert evidence.read_text() == other.checkpoint()
        assert folder.notes(1) == [log.checkpoint().encode()]
        assert keep(folder, log).before.size == 3

    @pytest.mark.parametrize("answer", [[], [bytes(32)], [bytes(31)], [bytes(32)] * 60])
    def test_a_proof_that_proves_nothing(self, folder, log, answer):
        keep(folder, log)
        log.append()
        with pytest.raises(CheckpointInconsistent):
            keep(folder, log, consistency=lambda *_: answer)

    def test_a_key_that_the_portal_alone_vouches_for(self, folder, log):
        keep(folder, log)
        log.append()
        with pytest.raises(NoteUntrusted):
            keep(folder, log, OTHER_KEY)
        assert names(folder) == ["1-3.checkpoint", "vkeys"]

    def test_a_key_that_a_known_one_signs_beside(self, folder, log):
        keep(folder, log)
        log.append()
        keep(folder, log, offline.SIGNING_KEY, OTHER_KEY)
        assert set(map(str, folder.keys())) == {vkey(ORIGIN), vkey(ORIGIN, OTHER_KEY)}
        log.append()
        assert keep(folder, log, OTHER_KEY).before.size == 4

    def test_a_key_that_is_announced_and_does_not_sign_is_not_trusted(self, folder, log):
        keep(folder, log, told=[vkey(ORIGIN), vkey(ORIGIN, OTHER_KEY)])
        assert list(map(str, folder.keys())) == [vkey(ORIGIN)]

    def test_pinned_from_the_beginning(self, folder, log):
        with pytest.raises(NoteUntrusted):
            keep(folder, log, OTHER_KEY, vkeys=[vkey(ORIGIN)])
        assert not folder.path.exists()
        assert keep(folder, log, vkeys=[vkey(ORIGIN)]).is_pinned

    def test_a_new_epoch_under_the_same_key(self, folder, log):
        keep(folder, log)
        reopened = Log.of(2, ORIGIN + "/2")
        found = keep(folder, reopened, consistency=never)
        assert (found.checkpoint.epoch, found.before, found.is_pinned) == (2, None, True)
        with pytest.raises(NoteUntrusted):
            keep(folder, Log.of(2, ORIGIN + "/3"), OTHER_KEY)
        with pytest.raises(NoteUntrusted):
            keep(folder, Log.of(2, "ledger.example/ledger/org_other"))

    def test_what_was_kept_was_changed(self, folder, log):
        keep(folder, log)
        (folder.path / "1-3.checkpoint").write_text(log.checkpoint().replace("\n3\n", "\n4\n"))
        with pytest.raises(NoteUntrusted, match="newest checkpoint in"):
            keep(folder, log)
        (folder.path / "1-3.checkpoint").write_bytes(b"x" * 70_000)
        with pytest.raises(BundleMalformed):
            keep(folder, log)

    def test_other_files_are_let_be(self, folder, log):
        keep(folder, log)
        for name in ("notes.txt", "1-03.checkpoint", "x1-9.checkpoint", "1-9.checkpoint~"):
            (folder.path / name).write_text("mine")
        log.append()
        assert keep(folder, log).before.size == 3


class TestProofs:
    """The portal's proofs are accepted here, and none that was changed."""

    def file(self, log, index):
        hashes = [tree.leaf_hash(leaf) for leaf in log.leaves]

        def node(level, place):
            return tree.root(hashes[place << level : place + 1 << level])

        return proof.write(index, tree.inclusion(index, len(hashes), node), log.checkpoint())

    def test_the_known_answer(self):
        leaf = KNOWN["leaves"][2].encode()
        found = verify_proof(KNOWN["proof_2_5"].encode(), leaf, vkeys=[KNOWN["vkey1"]])
        assert (found.index, found.checkpoint.size, found.members["act"]) == (2, 5, "key.rotated")

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9])
    def test_every_entry_at_every_place(self, size):
        log = Log.of(size)
        for index in range(size):
            text = self.file(log, index).encode()
            assert verify_proof(text, log.leaves[index], vkeys=[vkey(ORIGIN)]).index == index
            for other in range(size):
                if other != index:
                    with pytest.raises(LedgerError):
                        verify_proof(text, log.leaves[other], vkeys=[vkey(ORIGIN)])

    @given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
    @settings(max_examples=300, deadline=None)
    def test_any_bit_of_a_proof(self, place, bit):
        log = Log.of(6)
        text = bytearray(self.file(log, 3).encode())
        text[place % len(text)] ^= 1 << bit
        # What another key is said to have signed is nobody's business; here there is no such line.
        with pytest.raises(LedgerError):
            verify_proof(bytes(text), log.leaves[3], vkeys=[vkey(ORIGIN)])

    @pytest.mark.parametrize(
        "change",
        [
            lambda _text: b"",
            lambda _text: b"\n\n",
            lambda _text: b"x" * 70_000,
            lambda text: text.replace(b"v1", b"v2"),
            lambda text: text.replace(b"index 3", b"index 03"),
            lambda text: text.replace(b"index 3", b"index -3"),
            lambda text: text.replace(b"index 3", b"index " + b"9" * 5_000),
            lambda text: text.replace(b"index 3", b"extra AAAA\nindex 3"),
            lambda text: text.replace(b"\n", b"\r\n"),
            lambda text: text.replace(b"=\n", b"\n", 1),
        ],
    )
    def test_what_is_no_proof(self, change):
        log = Log.of(6)
        with pytest.raises((BundleMalformed, NoteUntrusted)):
            verify_proof(change(self.file(log, 3).encode()), log.leaves[3], vkeys=[vkey(ORIGIN)])


class TestTree:
    @pytest.mark.parametrize("new", [1, 2, 3, 4, 5, 8, 13, 32, 33, 64, 70])
    def test_consistency_of_every_older_size(self, new):
        def node(level, index):
            return tree.root(HASHES[index << level : index + 1 << level])

        roots = [tree.root(HASHES[:size]) for size in range(71)]
        for old in range(1, new + 1):
            path = tree.consistency(old, new, node)
            assert verify_consistency(old, new, roots[old], roots[new], path)
            assert not verify_consistency(old, new, bytes(32), roots[new], path)
            assert not verify_consistency(old, new, roots[old], bytes(32), path)
            assert not verify_consistency(old, new, roots[old], roots[new], [*path, bytes(32)])
            for place in range(len(path)):
                changed = [*path[:place], bytes(32), *path[place + 1 :]]
                assert not verify_consistency(old, new, roots[old], roots[new], changed)
                assert not verify_consistency(old, new, roots[old], roots[new], path[:place])

    @given(
        size=st.integers(1, 70), index=st.integers(0, 69), path=st.lists(st.sampled_from(HASHES), max_size=8)
    )
    @settings(max_examples=200, deadline=None)
    def test_no_other_path_leads_to_the_root(self, size, index, path):
        def node(level, place):
            return tree.root(HASHES[place << level : place + 1 << level])

        index %= size
        root, good = tree.root(HASHES[:size]), tree.inclusion(index, size, node)
        assert root_from_path(HASHES[index], index, size, good) == root
        assert (root_from_path(HASHES[index], index, size, path) == root) == (path == good)

    def test_a_copy_grows_on_its_own(self):
        grown = Tree()
        for each in HASHES[:5]:
            grown.append(each)
        copy = grown.copy()
        copy.append(HASHES[5])
        assert (grown.root(), copy.root()) == (tree.root(HASHES[:5]), tree.root(HASHES[:6]))
