"""Proofs as cases for the judge, and every way that we know to spoil one."""

import base64
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import note, tree
from audit.errors import AuditError
from audit.proofs import proof

THIEF = Ed25519PrivateKey.from_private_bytes(bytes(32))


def b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def flipped(octets: bytes, dice: random.Random) -> bytes:
    """Return octets with one bit changed."""
    changed = bytearray(octets)
    changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def another(hashes: Sequence[bytes], dice: random.Random) -> tuple[bytes, ...] | None:
    """Return hashes with one changed, taken out, put in, or two of them swapped; None where that changes nothing."""
    changed, kind = list(hashes), dice.choice(["flip", "drop", "add", "repeat", "swap", "empty"])
    if kind == "add" or not changed:
        changed.insert(dice.randint(0, len(changed)), dice.randbytes(32))
    elif kind == "flip":
        at = dice.randrange(len(changed))
        changed[at] = flipped(changed[at], dice)
    elif kind == "drop":
        del changed[dice.randrange(len(changed))]
    elif kind == "repeat":
        at = dice.randrange(len(changed))
        changed.insert(at, changed[at])
    elif kind == "swap":
        one, other = dice.randrange(len(changed)), dice.randrange(len(changed))
        changed[one], changed[other] = changed[other], changed[one]
    else:
        changed = []
    return None if changed == list(hashes) else tuple(changed)


def spoilt_note(signed: str, dice: random.Random) -> str:
    """Return a note that its log never signed: its text, its name, its key id or its signature is another one."""
    origin, size, root, _, line, _ = signed.split("\n")
    dash, name, octets = line.split(" ")
    signature = base64.b64decode(octets)
    match dice.choice(["size", "root", "origin", "signature", "signer", "thief", "none", "extension"]):
        case "size":
            size = str(max(1, int(size) + dice.choice([-1, 1, 7])))
            size = "1" + size if size == signed.split("\n")[1] else size
        case "root":
            root = b64(flipped(base64.b64decode(root), dice))
        case "origin":
            origin += "x"
        case "signature":
            # Of the key's id or of the signature itself.
            line = f"{dash} {name} {b64(flipped(signature, dice))}"
        case "signer":
            line = f"{dash} {name}/2 {octets}"
        case "thief":
            return note.sign(f"{origin}\n{size}\n{root}\n", origin, THIEF)
        case "none":
            return f"{origin}\n{size}\n{root}\n"
        case _:
            root += "\nmore"
    return f"{origin}\n{size}\n{root}\n\n{line}\n"


@dataclass(frozen=True)
class Inclusion:
    """A proof file, the entry that it is of, and who is trusted."""

    vkey: str
    leaf: bytes
    index: int
    hashes: tuple[bytes, ...]
    note: str
    text: bytes = b""

    @property
    def octets(self) -> bytes:
        """The proof file; where it was spoilt as a text, that."""
        lines = [proof.HEADER, f"index {self.index}", *map(b64, self.hashes), "", self.note]
        return self.text or "\n".join(lines).encode()

    def case(self) -> dict[str, Any]:
        """Return it for the judge."""
        return {"vkey": self.vkey, "leaf": b64(self.leaf), "proof": b64(self.octets)}

    def ours(self) -> bool:
        """Whether our own code accepts it."""
        key = note.VerifierKey.parse(self.vkey)
        try:
            proof.open_proof(self.octets.decode(), self.leaf, key.name, [key])
        except (AuditError, UnicodeDecodeError):
            return False
        return True

    def spoilt(self, dice: random.Random) -> "Inclusion":
        """Return it with one thing changed."""
        size = int(self.note.split("\n")[1])
        changed: dict[str, Any] = {"leaf": flipped(self.leaf, dice)}
        match dice.choice(["hashes", "hashes", "leaf", "index", "note", "note", "key", "cut", "bit"]):
            case "hashes" if hashes := another(self.hashes, dice):
                changed = {"hashes": hashes}
            case "index" if size > 1:
                index = dice.choice([self.index ^ 1, self.index + 1, dice.randrange(size), size])
                changed = {"index": self.index + size if index == self.index else index}
            case "note":
                changed = {"note": spoilt_note(self.note, dice)}
            case "key":
                changed = {"vkey": note.VerifierKey.of(self.vkey.partition("+")[0], THIEF).format()}
            case "cut":
                changed = {"text": self.octets[: dice.randrange(1, len(self.octets))]}
            case "bit":
                # In front of the note's signature, whose base64 the note's own rules read less strictly.
                end = self.octets.rindex(b"\n\n")
                changed = {"text": flipped(self.octets[:end], dice) + self.octets[end:]}
        return replace(self, **changed)


@dataclass(frozen=True)
class Consistency:
    """Two checkpoints of a log and what leads from one to the other."""

    vkey: str
    old: str
    new: str
    hashes: tuple[bytes, ...]

    def case(self) -> dict[str, Any]:
        """Return it for the judge."""
        notes = {"old": b64(self.old.encode()), "new": b64(self.new.encode())}
        return {"vkey": self.vkey, "hashes": list(map(b64, self.hashes)), **notes}

    def ours(self) -> bool:
        """Whether our own code accepts it."""
        key = note.VerifierKey.parse(self.vkey)
        try:
            old, new = (note.open_checkpoint(each, key.name, [key]) for each in (self.old, self.new))
            tree.verify_consistency(old.size, new.size, old.root, new.root, self.hashes)
        except AuditError:
            return False
        return True

    def spoilt(self, dice: random.Random, sign: Callable[[int, bytes], str]) -> "Consistency":
        """Return it with one thing changed; `sign` signs what is not true with the log's own key."""
        match dice.choice(["hashes", "hashes", "old", "new", "lie", "turned"]):
            case "hashes" if changed := another(self.hashes, dice):
                return replace(self, hashes=changed)
            case "old":
                return replace(self, old=spoilt_note(self.old, dice))
            case "turned" if self.old != self.new:
                return replace(self, old=self.new, new=self.old)
            case "lie":
                _, size, root, *_ = self.old.split("\n")
                return replace(self, old=sign(int(size), flipped(base64.b64decode(root), dice)))
        return replace(self, new=spoilt_note(self.new, dice))
