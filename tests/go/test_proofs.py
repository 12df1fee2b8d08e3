"""10,000 proofs of a real ledger that Go's `sumdb/note` and `tlog` accept, and 10,000 spoilt ones that they refuse."""

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
import rfc8785
from pymerkle import InmemoryTree

from audit import entry, note, tenancy, tree
from audit.models import Checkpoint, Entry
from audit.proofs import proof, proving
from audit.signatures import verifier_keys
from tests import ledgers, notaries
from tests.go.cases import Consistency, Inclusion

GROWTH = (1, 6, 249, 1, 300, 467, 1, 1175)
CASES = 10_000
STORED = 150


@dataclass(frozen=True)
class Ledger:
    """A ledger as the notary signed it while it grew."""

    id: str
    vkey: str
    leaves: list[bytes]
    notes: dict[int, str]
    nodes: dict[tuple[int, int], bytes]
    others: dict[int, str] = field(default_factory=dict)

    def node(self, level, index):
        """Return a subtree's hash, computed once from what the tables hold."""
        found = self.nodes.get((level, index))
        if found is None:
            below = (self.node(level - 1, 2 * index), self.node(level - 1, 2 * index + 1))
            found = self.nodes[level, index] = tree.node_hash(*below)
        return found

    def inclusion(self, index, size):
        hashes = tree.inclusion(index, size, self.node)
        return Inclusion(self.vkey, self.leaves[index], index, tuple(hashes), self.notes[size])

    def consistency(self, old, new):
        hashes = tree.consistency(old, new, self.node)
        return Consistency(self.vkey, self.signed(old), self.signed(new), tuple(hashes))

    def signed(self, size):
        """Return the notary's note, or for a size at which it was not looking, one by the same key."""
        if size not in self.notes and size not in self.others:
            self.others[size] = self.sign(size, tree.root(self.node(0, at) for at in range(size)))
        return self.notes.get(size) or self.others[size]

    def sign(self, size, root):
        origin = self.vkey.partition("+")[0]
        return note.sign(note.checkpoint_text(origin, size, root), origin, notaries.KEY)


@pytest.fixture(scope="module")
def ledger(django_db_setup, django_db_blocker, tmp_path_factory):
    with django_db_blocker.unblock():
        organization_id = ledgers.new()
        notary = notaries.new(tmp_path_factory.mktemp("notary"))
        for count in GROWTH:
            ledgers.append(organization_id, count)
            notary.round()
        with tenancy.within(organization_id):
            rows = Entry.objects.of(organization_id).oldest_first().values_list("leaf", flat=True)
            leaves = [bytes(leaf) for leaf in rows]
            (vkey,) = verifier_keys.published(organization_id, 1)
            notes = dict(Checkpoint.objects.of(organization_id).values_list("size", "note"))
    nodes = {(0, at): tree.leaf_hash(leaf) for at, leaf in enumerate(leaves)}
    return Ledger(organization_id, vkey, leaves, notes, nodes)


@pytest.fixture(scope="module")
def good(ledger):
    """10,000 good ones: every entry against every checkpoint that covers it, and pairs of sizes."""
    dice, size, sizes = random.Random(20261121), len(ledger.leaves), sorted(ledger.notes)
    found = [ledger.inclusion(index, of) for of in sizes for index in range(of)]
    # A note of each of these sizes has to be signed first.
    more = sorted({*sizes, *dice.sample(range(1, size), 150)})
    pairs = [(old, new) for old in more for new in more if old <= new]
    return found + [ledger.consistency(old, new) for old, new in dice.sample(pairs, CASES - len(found))]


class TestProofs:
    def test_the_notary_signed_as_it_grew(self, ledger):
        assert len(ledger.leaves) == sum(GROWTH) + 1
        assert len(ledger.notes) == len(GROWTH)

    def test_good_ones_are_accepted(self, judge, good):
        assert len({str(each.case()) for each in good}) == CASES
        assert Counter(map(type, good))[Consistency] > 4_000
        assert Counter(judge(each.case() for each in good)) == {"ok": CASES}
        assert all(each.ours() for each in good)

    def test_spoilt_ones_are_refused(self, judge, ledger, good):
        dice = random.Random(5)
        spoilt = [
            each.spoilt(dice) if isinstance(each, Inclusion) else each.spoilt(dice, ledger.sign)
            for each in good
        ]
        said = judge(each.case() for each in spoilt)
        accepted = [each for each, word in zip(spoilt, said, strict=True) if not word.startswith("refused: ")]
        assert len(said) == CASES
        assert accepted == []
        assert [each for each in spoilt if each.ours()] == []
        # Not one reason for all of them: signatures, roots, forms.
        assert len(set(said)) >= 8

    def test_what_the_product_hands_out(self, judge, ledger):
        dice, size = random.Random(7), len(ledger.leaves)
        handed = []
        with tenancy.within(ledger.id):
            for index in (0, 1, 255, 256, size - 1, *dice.sample(range(size), STORED - 5)):
                text = proving.inclusion_proof(ledger.id, (1, index))
                read = proof.read(text)
                made = Inclusion(ledger.vkey, ledger.leaves[index], index, read.hashes, read.note)
                assert made.octets == text.encode()
                handed.append(made)
            for at, new in enumerate(sorted(ledger.notes)):
                for old in sorted(ledger.notes)[: at + 1]:
                    hashes = proving.consistency_proof(ledger.id, 1, old, new)
                    handed.append(
                        Consistency(ledger.vkey, ledger.notes[old], ledger.notes[new], tuple(hashes))
                    )
        assert set(judge(each.case() for each in handed)) == {"ok"}


def test_pymerkle_computes_the_signed_roots(ledger):
    key = note.VerifierKey.parse(ledger.vkey)
    theirs = InmemoryTree(algorithm="sha256")
    seen = 0
    for size, leaf in enumerate(ledger.leaves, start=1):
        theirs.append_entry(leaf)
        if size in ledger.notes:
            signed = note.open_checkpoint(ledger.notes[size], key.name, [key])
            assert (signed.size, signed.root) == (size, theirs.get_root())
            seen += 1
    assert seen == len(GROWTH)


def test_rfc8785_writes_the_same_bytes(ledger):
    for leaf in ledger.leaves:
        assert rfc8785.dumps(entry.json.loads(leaf)) == leaf
