"""Offline bundles in tests: checkpoints for them, and a reader that believes nothing in a bundle but its signature."""

import io
import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import entry as entry_rules
from audit import note, tenancy
from audit.models import Entry
from audit.tree import Tree
from tests import ledgers

SIGNER = Ed25519PrivateKey.from_private_bytes(sha256(b"TEST ONLY ledger log key 1").digest())
MEMBERS = ["vkeys", "checkpoint", "entries.jsonl", "sealed.jsonl"]


@dataclass(frozen=True)
class Read:
    """What a bundle holds: the members of its entries, and its openings by (index, field)."""

    size: int
    entries: list[entry_rules.ParsedEntry]
    openings: dict[tuple[int, str], str]
    names: list[str]


def sign(organization_id: str, size: int | None = None, *, epoch: int = 1) -> str:
    """Publish a checkpoint over the first `size` entries, all of them unless told, as the notary would."""
    with tenancy.within(organization_id):
        rows = Entry.objects.of(organization_id).filter(epoch=epoch).oldest_first()
        leaves = [bytes(leaf) for leaf in rows.values_list("leaf", flat=True)[:size]]
    origin = entry_rules.parse(leaves[0]).log
    tree = Tree()
    for leaf in leaves:
        tree.append(entry_rules.leaf_hash(leaf))
    signed = note.sign(note.checkpoint_text(origin, tree.size, tree.root()), origin, SIGNER)
    with ledgers.superuser() as connection:
        connection.execute(
            "INSERT INTO audit_checkpoint VALUES (%s, %s, %s, %s, %s, now(), now()) ON CONFLICT DO NOTHING",
            [organization_id, epoch, tree.size, tree.root(), signed],
        )
    return signed


def read(pieces: Iterable[bytes]) -> Read:
    """Check a bundle (spec LEDGER, Bytes 14) and return what it holds; an `AssertionError` says what is wrong."""
    with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as file:
        assert file.testzip() is None
        members = {name: file.read(name) for name in file.namelist()}
    keys = [note.VerifierKey.parse(line) for line in members["vkeys"].decode().splitlines()]
    checkpoint = note.open_checkpoint(members["checkpoint"].decode(), keys[0].name, keys)
    assert list(members) == [
        *MEMBERS[:2],
        *(["old-checkpoint"] if "old-checkpoint" in members else []),
        *MEMBERS[2:],
    ]
    tree, entries, previous = Tree(), [], entry_rules.genesis_prev()
    for leaf in _lines(members["entries.jsonl"]):
        entry = entry_rules.parse(leaf)
        entry_rules.check_successor(entries[-1] if entries else None, previous, entry)
        previous = entry_rules.leaf_hash(leaf)
        tree.append(previous)
        entries.append(entry)
    assert (tree.size, tree.root()) == (checkpoint.size, checkpoint.root)
    openings = _openings(members["sealed.jsonl"], entries)
    _check_missing(entries, openings)
    return Read(checkpoint.size, entries, openings, list(members))


def _openings(text: bytes, entries: list[entry_rules.ParsedEntry]) -> dict[tuple[int, str], str]:
    found: dict[tuple[int, str], str] = {}
    for line in _lines(text):
        opening = json.loads(line)
        assert rfc8785.dumps(opening) == line
        place = opening["i"], opening["field"]
        assert not found or place > max(found)
        salt = entry_rules.base64.b64decode(opening["salt"])
        assert (
            entry_rules.commit(opening["field"], opening["value"], salt) == entries[place[0]].sealed[place[1]]
        )
        found[place] = opening["value"]
    return found


def _check_missing(entries: list[entry_rules.ParsedEntry], openings: dict[tuple[int, str], str]) -> None:
    erased = {
        (i, field)
        for entry in entries
        if entry.act == "ledger.erasure"
        for i in entry.data["entries"]
        for field in entry.data["fields"]
    }
    missing = {(entry.i, field) for entry in entries for field in entry.sealed} - set(openings)
    assert missing <= erased, f"missing without an erasure: {sorted(missing - erased)}"


def _lines(text: bytes) -> list[bytes]:
    assert text == b"" or text.endswith(b"\n")
    return text.split(b"\n")[:-1]
