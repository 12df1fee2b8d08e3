"""Proofs of the tree and proof files: what is made verifies, what is changed anywhere does not."""

import base64
import math
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from audit import note, tree
from audit.errors import (
    CheckpointInvalid,
    NoteError,
    NoteForged,
    NoteUntrusted,
    ProofInvalid,
    ProofMalformed,
)
from audit.note import VerifierKey
from audit.proofs import proof
from tests.vectors import load

LEDGER = load("ledger")
ORIGIN = LEDGER["origin"]
KEY = VerifierKey.parse(LEDGER["vkey1"])
LEAVES = [leaf.encode() for leaf in LEDGER["leaves"]]
MOST = 70
HASHES = [tree.leaf_hash(b"leaf %d" % number) for number in range(MOST)]
sizes = st.integers(1, MOST)


def node(level, index, hashes=HASHES):
    """Answer as the tree's tables do, and refuse what reaches beyond them."""
    found = hashes[index << level : (index + 1) << level]
    assert len(found) == 1 << level
    return tree.root(found)


def path(index, hashes):
    """RFC 6962 §2.1.1, as it is written."""
    if len(hashes) == 1:
        return []
    k = 2 ** math.ceil(math.log2(len(hashes)) - 1)
    if index < k:
        return [*path(index, hashes[:k]), tree.root(hashes[k:])]
    return [*path(index - k, hashes[k:]), tree.root(hashes[:k])]


def subproof(old, hashes, *, known):
    """RFC 6962 §2.1.2, as it is written."""
    if old == len(hashes):
        return [] if known else [tree.root(hashes)]
    k = 2 ** math.ceil(math.log2(len(hashes)) - 1)
    if old <= k:
        return [*subproof(old, hashes[:k], known=known), tree.root(hashes[k:])]
    return [*subproof(old - k, hashes[k:], known=False), tree.root(hashes[:k])]


def root(size):
    return tree.root(HASHES[:size])


class TestInclusion:
    def test_the_known_answer(self):
        hashes = [base64.b64decode(text) for text in LEDGER["incl_2_5"]]
        known = [tree.leaf_hash(leaf) for leaf in LEAVES]
        assert tree.inclusion(2, 5, lambda level, index: node(level, index, known)) == hashes
        tree.verify_inclusion(2, 5, known[2], hashes, bytes.fromhex(LEDGER["roots"][5]))

    @given(sizes, st.data())
    @settings(max_examples=150, deadline=None)
    def test_every_entry_of_every_size(self, size, data):
        index = data.draw(st.integers(0, size - 1))
        made = tree.inclusion(index, size, node)
        assert made == path(index, HASHES[:size])
        tree.verify_inclusion(index, size, HASHES[index], made, root(size))

    @given(sizes, st.data())
    @settings(max_examples=250, deadline=None)
    def test_what_is_changed_anywhere_is_refused(self, size, data):
        index = data.draw(st.integers(0, size - 1))
        good = (index, size, HASHES[index], tree.inclusion(index, size, node), root(size))
        bad = data.draw(mutated(good))
        with pytest.raises(ProofInvalid):
            tree.verify_inclusion(*bad)

    @pytest.mark.parametrize(("index", "size"), [(-1, 5), (5, 5), (0, 0), (3, 2)])
    def test_an_index_that_there_is_not(self, index, size):
        with pytest.raises(ValueError, match="below the size"):
            tree.inclusion(index, size, node)
        with pytest.raises(ProofInvalid):
            tree.verify_inclusion(index, size, HASHES[0], [], HASHES[0])

    def test_only_a_logarithm_of_nodes_is_asked_for(self):
        asked = []

        def counted(level, index):
            asked.append((level, index))
            return bytes(32)

        size = 10_000_019
        assert len(tree.inclusion(7_654_321, size, counted)) <= 24
        tree.consistency(7_654_321, size, counted)
        assert len(asked) <= 4 * 24
        assert all((index + 1) << level <= size for level, index in asked)


class TestConsistency:
    def test_the_known_answer(self):
        hashes = [base64.b64decode(text) for text in LEDGER["cons_3_5"]]
        known = [tree.leaf_hash(leaf) for leaf in LEAVES]
        assert tree.consistency(3, 5, lambda level, index: node(level, index, known)) == hashes
        older, newer = (bytes.fromhex(LEDGER["roots"][size]) for size in (3, 5))
        tree.verify_consistency(3, 5, older, newer, hashes)

    @given(sizes, st.data())
    @settings(max_examples=150, deadline=None)
    def test_every_pair_of_sizes(self, new, data):
        old = data.draw(st.integers(1, new))
        made = tree.consistency(old, new, node)
        assert made == subproof(old, HASHES[:new], known=True)
        tree.verify_consistency(old, new, root(old), root(new), made)

    @given(sizes, st.data())
    @settings(max_examples=250, deadline=None)
    def test_what_is_changed_anywhere_is_refused(self, new, data):
        old = data.draw(st.integers(1, new))
        made = tree.consistency(old, new, node)
        where = data.draw(st.integers(0, len(made) + 1))
        both = flipped([root(old), root(new), *made], where, data.draw(st.integers(0, 255)))
        with pytest.raises(ProofInvalid):
            tree.verify_consistency(old, new, both[0], both[1], both[2:])
        for wrong in ([*made, bytes(32)], made[:-1], [b"", *made], [bytes(32), *made]):
            if wrong != made:
                with pytest.raises(ProofInvalid):
                    tree.verify_consistency(old, new, root(old), root(new), wrong)

    @given(sizes, st.data())
    @settings(max_examples=150, deadline=None)
    def test_another_history_is_refused(self, new, data):
        old, changed = data.draw(st.integers(1, new)), data.draw(st.integers(0, new - 1))
        other = flipped(HASHES[:new], changed, 0)
        made = tree.consistency(old, new, lambda level, index: node(level, index, other))
        if changed < old:
            with pytest.raises(ProofInvalid):
                tree.verify_consistency(old, new, root(old), tree.root(other), made)
        else:
            tree.verify_consistency(old, new, root(old), tree.root(other), made)

    @pytest.mark.parametrize(("old", "new"), [(0, 5), (-1, 5), (6, 5), (0, 0)])
    def test_nothing_is_proved_of_the_empty_tree(self, old, new):
        with pytest.raises(ValueError, match="above 0"):
            tree.consistency(old, new, node)
        with pytest.raises(ProofInvalid):
            tree.verify_consistency(old, new, tree.EMPTY_ROOT, root(5), [])


class TestFile:
    def test_the_known_answer(self):
        hashes = [base64.b64decode(text) for text in LEDGER["incl_2_5"]]
        text = proof.write(2, hashes, LEDGER["checkpoint5"])
        assert text == LEDGER["proof_2_5"]
        assert proof.read(text) == proof.Proof(2, tuple(hashes), LEDGER["checkpoint5"])
        found = proof.open_proof(text, LEAVES[2], ORIGIN, [KEY])
        assert found == note.Checkpoint(ORIGIN, 5, bytes.fromhex(LEDGER["roots"][5]))

    def test_the_only_entry_of_a_ledger_needs_no_hash(self):
        text = note.checkpoint_text(ORIGIN, 1, tree.leaf_hash(LEAVES[0]))
        private = Ed25519PrivateKey.from_private_bytes(sha256(b"TEST ONLY ledger log key 1").digest())
        made = proof.write(0, [], note.sign(text, ORIGIN, private))
        assert proof.open_proof(made, LEAVES[0], ORIGIN, [KEY]).size == 1

    def test_another_leaf_another_key_another_log(self):
        for leaf, origin, key, error in [
            (LEAVES[1], ORIGIN, KEY, ProofInvalid),
            (LEAVES[2] + b" ", ORIGIN, KEY, ProofInvalid),
            (LEAVES[2], ORIGIN, VerifierKey(ORIGIN, bytes(32)), NoteUntrusted),
            (LEAVES[2], ORIGIN + "/2", KEY, NoteUntrusted),
            (LEAVES[2], ORIGIN, VerifierKey(ORIGIN + "/2", KEY.public), NoteUntrusted),
        ]:
            with pytest.raises(error):
                proof.open_proof(LEDGER["proof_2_5"], leaf, origin, [key])

    @given(st.integers(0, len(LEDGER["proof_2_5"].encode()) * 8 - 1))
    @settings(max_examples=300, deadline=None)
    def test_one_bit_flipped_anywhere(self, bit):
        octets = bytearray(LEDGER["proof_2_5"].encode())
        octets[bit // 8] ^= 1 << (bit % 8)
        known = [VerifierKey.parse(LEDGER[name]) for name in ("vkey1", "vkey2")]
        try:
            found = proof.open_proof(octets.decode(), LEAVES[2], ORIGIN, known)
        except (ProofInvalid, ProofMalformed, NoteError, CheckpointInvalid, UnicodeDecodeError):
            return
        # Lines of keys that the reader does not know say nothing: all that was changed stands in such a line.
        assert found.size == 5
        changed = octets.decode().rpartition("\n\n")
        assert changed[0] == LEDGER["proof_2_5"].rpartition("\n\n")[0]

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "\n\n",
            LEDGER["checkpoint5"],
            LEDGER["proof_2_5"].replace("@v1", "@v2"),
            LEDGER["proof_2_5"].replace("index 2", "index 02"),
            LEDGER["proof_2_5"].replace("index 2", "index -2"),
            LEDGER["proof_2_5"].replace("index 2", "index \u0662"),
            LEDGER["proof_2_5"].replace("index 2", "index 9007199254740992"),
            LEDGER["proof_2_5"].replace("index 2\n", ""),
            LEDGER["proof_2_5"].replace("index 2\n", "extra AAAA\nindex 2\n"),
            LEDGER["proof_2_5"].replace("rt4=\n", "rt4\n"),
            LEDGER["proof_2_5"].replace("rt4=\n", "rt5=\n"),
            LEDGER["proof_2_5"].replace("rt4=\n", "rt4= \n"),
            LEDGER["proof_2_5"].replace("\n", "\r\n"),
            LEDGER["proof_2_5"].partition("\n\n")[0],
            LEDGER["proof_2_5"].partition("\n\n")[0] + "\n\n",
            "c2sp.org/tlog-proof@v1\n\n" + LEDGER["checkpoint5"],
        ],
    )
    def test_what_is_no_proof_file(self, text):
        with pytest.raises(ProofMalformed):
            proof.read(text)

    def test_too_many_hashes(self):
        proof.write(0, [bytes(32)] * 53, LEDGER["checkpoint5"])
        with pytest.raises(ProofMalformed, match="at most 53"):
            proof.write(0, [bytes(32)] * 54, LEDGER["checkpoint5"])

    def test_a_changed_note(self):
        broken = LEDGER["proof_2_5"].replace("\n5\n", "\n6\n")
        with pytest.raises(NoteForged):
            proof.open_proof(broken, LEAVES[2], ORIGIN, [KEY])


def flipped(hashes, where, bit):
    """Return the hashes with one bit of one of them changed."""
    octets = bytearray(hashes[where])
    octets[bit // 8] ^= 1 << (bit % 8)
    return [*hashes[:where], bytes(octets), *hashes[where + 1 :]]


@st.composite
def mutated(draw, good):
    """Return the arguments of `verify_inclusion` with one thing changed."""
    index, size, leaf, hashes, root_ = good
    match draw(st.sampled_from(["hash", "leaf", "root", "index", "longer", "shorter", "short hash"])):
        case "hash" if hashes:
            hashes = flipped(hashes, draw(st.integers(0, len(hashes) - 1)), draw(st.integers(0, 255)))
        case "leaf":
            (leaf,) = flipped([leaf], 0, draw(st.integers(0, 255)))
        case "index" if size > 1:
            index = draw(st.integers(-1, 2 * size).filter(lambda other: other != good[0]))
        case "longer":
            hashes = [*hashes, draw(st.binary(min_size=32, max_size=32))]
        case "shorter" if hashes:
            hashes = hashes[:-1]
        case "short hash" if hashes:
            hashes = [*hashes[:-1], hashes[-1][:-1]]
        case _:
            (root_,) = flipped([root_], 0, draw(st.integers(0, 255)))
    return index, size, leaf, hashes, root_
