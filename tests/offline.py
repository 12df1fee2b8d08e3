"""Offline bundles as the tests need them: good ones of a made-up log, and whatever a database holds."""

import base64
import json
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import entry, note, tree
from tests import ledgers

# The known answers' key 1, which is the deployment's in tests.
SIGNING_KEY = Ed25519PrivateKey.from_private_bytes(sha256(b"TEST ONLY ledger log key 1").digest())
ORIGIN = "ledger.example/ledger/org_northline"
START = datetime(2026, 11, 21, 12, tzinfo=UTC)


def vkey(origin: str, key: Ed25519PrivateKey = SIGNING_KEY) -> str:
    """Return the verifier key of a log."""
    return note.VerifierKey.of(origin, key).format()


def signed(origin: str, leaves: Iterable[bytes], *keys: Ed25519PrivateKey) -> str:
    """Return the note of a log's checkpoint."""
    hashes = [tree.leaf_hash(leaf) for leaf in leaves]
    return note.sign(
        note.checkpoint_text(origin, len(hashes), tree.root(hashes)), origin, *keys or [SIGNING_KEY]
    )


def opening(index: int, name: str, salt: bytes, value: str) -> bytes:
    """Return a line of `sealed.jsonl`."""
    members = {"field": name, "i": index, "salt": base64.b64encode(salt).decode(), "value": value}
    return rfc8785.dumps(members)


@dataclass
class Log:
    """A log that somebody may change before it is written as a bundle."""

    leaves: list[bytes] = field(default_factory=list)
    openings: list[bytes] = field(default_factory=list)
    origin: str = ORIGIN

    @classmethod
    def of(cls, size: int, origin: str = ORIGIN) -> "Log":
        """Return a log of so many entries; each but the first has two sealed values."""
        log = cls(origin=origin)
        act = "ledger.opened" if "/2" not in origin else "ledger.reopened"
        log.append(act=act, actor="sys_portal", data={"vkey": vkey(origin)})
        for index in range(1, size):
            log.append(sealed={"email": f"alice{index}@example.com", "name": "Alice Ærø 🔑"})
        return log

    def append(
        self, *, act: str = "key.created", actor: str = "usr_alice", data=None, sealed=None, t=None, prev=None
    ) -> None:
        """Append an entry and the openings of what is sealed in it."""
        index = len(self.leaves)
        salts = {name: sha256(f"{index} {name}".encode()).digest() for name in sealed or {}}
        leaf = entry.build(
            log=self.origin,
            i=index,
            t=t or START + timedelta(seconds=index),
            prev=prev or (tree.leaf_hash(self.leaves[-1]) if self.leaves else entry.genesis_prev()),
            act=act,
            actor=actor,
            data=data or {"target": f"key_{index}", "name": "CI €"},
            sealed={name: entry.commit(name, sealed[name], salt) for name, salt in salts.items()},
        )
        self.leaves.append(leaf)
        self.openings += [opening(index, name, salts[name], sealed[name]) for name in sorted(salts)]

    def checkpoint(self, size: int | None = None, *keys: Ed25519PrivateKey) -> str:
        """Return the note of the log as it is, or was at a size."""
        return signed(self.origin, self.leaves[:size], *keys)

    def members(self, **changed: bytes | str | None) -> dict[str, bytes | str]:
        """Return the bundle's members; None leaves one out."""
        all_ = {
            "vkeys": vkey(self.origin) + "\n",
            "checkpoint": self.checkpoint(),
            "old-checkpoint": None,
            "entries.jsonl": lines(self.leaves),
            "sealed.jsonl": lines(self.openings),
        } | {
            name.replace("entries", "entries.jsonl").replace("sealed", "sealed.jsonl"): value
            for name, value in ((name.replace("_", "-"), value) for name, value in changed.items())
        }
        return {name: content for name, content in all_.items() if content is not None}

    def write(self, path: Path, **changed: bytes | str | None) -> Path:
        """Write the bundle, with members changed: `entries`, `sealed`, `checkpoint`, `old_checkpoint`, `vkeys`."""
        return write(path, self.members(**changed))


def lines(them: Sequence[bytes]) -> bytes:
    """Return lines, each ended."""
    return b"".join(line + b"\n" for line in them)


def write(path: Path, members: dict[str, bytes | str]) -> Path:
    """Write a zip of members."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    return path


ENTRIES = "SELECT leaf FROM audit_entry WHERE organization_id = %s AND epoch = %s ORDER BY index"
OPENINGS = (
    "SELECT index, field, salt, value FROM audit_sealed WHERE organization_id = %s AND epoch = %s "
    'ORDER BY index, field COLLATE "C"'
)


def from_rows(path: Path, organization_id: str, checkpoint: str, *, epoch: int = 1) -> Path:
    """Write what the tables hold of a log, whatever was done to it, with a checkpoint that was signed before."""
    with ledgers.superuser() as connection:
        leaves = [bytes(leaf) for (leaf,) in connection.execute(ENTRIES, [organization_id, epoch])]
        openings = [
            opening(index, name, bytes(salt), value)
            for index, name, salt, value in connection.execute(OPENINGS, [organization_id, epoch])
        ]
    origin = checkpoint.partition("\n")[0]
    members = {
        "vkeys": vkey(origin) + "\n",
        "checkpoint": checkpoint,
        "entries.jsonl": lines(leaves),
        "sealed.jsonl": lines(openings),
    }
    return write(path, members)


def told(path: Path) -> list[dict]:
    """Return the entries of a bundle."""
    with zipfile.ZipFile(path) as zipped:
        return [json.loads(line) for line in zipped.read("entries.jsonl").splitlines()]
