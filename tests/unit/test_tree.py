import math
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from audit import tree
from tests.vectors import load

LEDGER = load("ledger")
RFC_LEAVES = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip


def definition(hashes):
    """RFC 6962 §2.1, as it is written."""
    if not hashes:
        return sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 2 ** math.ceil(math.log2(len(hashes)) - 1)
    return sha256(b"\x01" + definition(hashes[:k]) + definition(hashes[k:])).digest()


@pytest.mark.parametrize("size", range(9))
def test_roots_of_the_certificate_transparency_samples(size):
    hashes = [tree.leaf_hash(leaf) for leaf in RFC_LEAVES[:size]]
    assert tree.root(hashes).hex() == LEDGER["rfc6962_roots"][size]


@pytest.mark.parametrize("size", range(6))
def test_roots_of_the_sample_ledger(size):
    hashes = [tree.leaf_hash(leaf.encode()) for leaf in LEDGER["leaves"][:size]]
    assert tree.root(hashes).hex() == LEDGER["roots"][size]


def test_pymerkle_computes_the_same_roots():
    ours, theirs = tree.Tree(), InmemoryTree(algorithm="sha256")
    for size in range(71):
        assert (ours.size, ours.root()) == (size, theirs.get_root())
        ours.append(tree.leaf_hash(b"leaf %d" % size))
        theirs.append_entry(b"leaf %d" % size)


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=40))
@settings(max_examples=40, deadline=None)
def test_a_stream_has_the_root_of_the_definition(hashes):
    assert tree.root(iter(hashes)) == definition(hashes)


def test_memory_grows_with_the_logarithm():
    grown = tree.Tree()
    most = 0
    for _ in range(5000):
        grown.append(bytes(32))
        most = max(most, len(grown._peaks))
    assert most == 12


def test_a_root_does_not_change_the_tree():
    grown = tree.Tree()
    for leaf in (bytes(32), bytes([1] * 32), bytes([2] * 32)):
        grown.append(leaf)
        assert grown.root() == grown.root()
    assert grown.size == 3


def test_a_leaf_is_never_a_node():
    left, right = tree.leaf_hash(b"a"), tree.leaf_hash(b"b")
    assert tree.leaf_hash(left + right) != tree.node_hash(left, right)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_what_is_no_hash_is_refused(length):
    with pytest.raises(ValueError, match="32 bytes"):
        tree.root([bytes(length)])
