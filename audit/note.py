"""Checkpoints and the signed notes that carry them (LEDGER.md Bytes 6 and 7).

The formats are C2SP tlog-checkpoint and signed-note: Go's `golang.org/x/mod/sumdb/note` opens what `sign`
makes. Stricter than those where it costs nobody: a checkpoint has three lines, base64 has one spelling, and
of a key's repeated signatures every one is verified.
"""

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit.entry import MAX_INTEGER, is_origin
from audit.errors import CheckpointInvalid, NoteForged, NoteMalformed, NoteUntrusted, VerifierKeyInvalid
from audit.tree import EMPTY_ROOT, HASH_BYTES

ED25519 = b"\x01"
PUBLIC_KEY_BYTES = 32
KEY_ID_BYTES = 4
MAX_SIGNATURES = 100
SIGNATURE_PREFIX = "— "

SIZE = re.compile(r"0|[1-9][0-9]{0,15}")
FORBIDDEN = re.compile("[\x00-\x09\x0b-\x1f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log: its origin, its number of entries, and the 32-byte root over them."""

    origin: str
    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """An Ed25519 public key (32 bytes) under the name of who signs with it."""

    name: str
    public: bytes

    def __post_init__(self) -> None:
        if not _is_key_name(self.name):
            raise VerifierKeyInvalid("a key's name is not empty and has no space, no plus and no control")
        if len(self.public) != PUBLIC_KEY_BYTES:
            raise VerifierKeyInvalid(f"an Ed25519 public key has {PUBLIC_KEY_BYTES} bytes")

    @property
    def id(self) -> bytes:
        """The 4 bytes by which a signature line names this key."""
        return key_id(self.name, self.public)

    @classmethod
    def of(cls, name: str, private: Ed25519PrivateKey) -> Self:
        """Return the public half of `private` under `name`. Raises VerifierKeyInvalid for a bad name."""
        return cls(name, private.public_key().public_bytes_raw())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `name+hex(keyid)+b64(0x01‖public)` (LEDGER.md Bytes 7).

        Raises VerifierKeyInvalid for another form or algorithm, or a key id that is not this key's.
        """
        name, _, rest = text.partition("+")
        claimed, _, encoded = rest.partition("+")
        decoded = _decode(encoded)
        if decoded is None or decoded[:1] != ED25519:
            raise VerifierKeyInvalid("not a verifier key of an Ed25519 key")
        key = cls(name, decoded[1:])
        if claimed != key.id.hex():
            raise VerifierKeyInvalid("the key id is not this key's")
        return key

    def format(self) -> str:
        """Return the verifier key as text, the form in which it is published and `parse` reads it."""
        return f"{self.name}+{self.id.hex()}+{_encode(ED25519 + self.public)}"

    def verify(self, text: str, signature: bytes) -> None:
        """Check this key's signature over a note's text (with its final newline). Raises NoteForged."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except InvalidSignature:
            raise NoteForged(f"a signature is not by {self.format()}") from None


@dataclass(frozen=True, slots=True)
class OpenedNote:
    """A note's text (with its final newline) and the known keys that signed it, at least one."""

    text: str
    signers: tuple[VerifierKey, ...]


def key_id(name: str, public: bytes) -> bytes:
    """Return the first 4 bytes of H(name‖LF‖0x01‖public) (LEDGER.md Bytes 7).

    It tells keys apart and proves nothing: anybody can make a key with the id of another.
    """
    return sha256(name.encode() + b"\n" + ED25519 + public).digest()[:KEY_ID_BYTES]


def checkpoint_text(origin: str, size: int, root: bytes) -> str:
    """Return the text that is signed: origin, decimal size and base64 root, a line each (Bytes 6).

    `size` is the number of entries, `root` the 32-byte root over them.
    Raises CheckpointInvalid for a bad origin, size or length of root, or an empty tree's wrong root.
    """
    if not is_origin(origin):
        raise CheckpointInvalid("the origin is not a log's name")
    if not 0 <= size <= MAX_INTEGER + 1:
        raise CheckpointInvalid("the size is no number of entries")
    if len(root) != HASH_BYTES or (size == 0 and root != EMPTY_ROOT):
        raise CheckpointInvalid("the root is no root of that size")
    return f"{origin}\n{size}\n{_encode(root)}\n"


def parse_checkpoint(text: str) -> Checkpoint:
    """Read a checkpoint's text, of which there is one spelling (LEDGER.md Bytes 6).

    Only for text that `open_note` returned; for a log's checkpoint use `open_checkpoint`.
    Raises CheckpointInvalid for anything `checkpoint_text` would not write, extension lines included.
    """
    match text.split("\n"):
        case [origin, size, encoded, ""] if SIZE.fullmatch(size) and (root := _decode(encoded)) is not None:
            # Writing it again runs the checks once more, on what was read.
            checkpoint_text(origin, int(size), root)
            return Checkpoint(origin, int(size), root)
        case _:
            raise CheckpointInvalid("not the three lines origin, size and root")


def sign(text: str, name: str, *keys: Ed25519PrivateKey) -> str:
    """Return the note of `text`, signed under `name` with each key in turn (LEDGER.md Bytes 7).

    `text` ends in a newline. Two keys serve the 90 days of a signing key's rotation (Bytes 13).
    Raises NoteMalformed for a text that a note can't hold, VerifierKeyInvalid for a bad name.
    """
    if not keys or not text.endswith("\n") or FORBIDDEN.search(text):
        raise NoteMalformed("a note is lines of text, without controls, and at least one signature")
    lines = [
        f"{SIGNATURE_PREFIX}{name} {_encode(VerifierKey.of(name, key).id + key.sign(text.encode()))}\n"
        for key in keys
    ]
    return text + "\n" + "".join(lines)


def open_note(note: str, keys: Iterable[VerifierKey]) -> OpenedNote:
    """Return the text of a note that at least one of `keys` signed, and which of them did.

    Signatures by other keys (witnesses, retired keys) are ignored; the text is not to be used otherwise.

    Raises NoteMalformed for what is no note, or has more than 100 signatures; NoteForged where a line bears
    the name and id of one of `keys` and does not verify, whatever the other lines say; NoteUntrusted where
    none of `keys` signed; VerifierKeyInvalid where two of `keys` share name and id (LEDGER.md Bytes 7).
    """
    known = _by_name_and_id(keys)
    text, lines = _split(note)
    signers: dict[VerifierKey, None] = {}
    for line in lines:
        name, identifier, signature = _read_signature(line)
        key = known.get((name, identifier))
        if key is not None:
            key.verify(text, signature)
            signers[key] = None
    if not signers:
        raise NoteUntrusted("no signature is by a known key")
    return OpenedNote(text, tuple(signers))


def open_checkpoint(note: str, origin: str, keys: Iterable[VerifierKey]) -> Checkpoint:
    """Return the checkpoint of the log named `origin`, signed by that log's key (LEDGER.md Bytes 1, 6, 7).

    One key pair serves many logs, and a signature covers the text and not the name beside it: a checkpoint
    of one log, relabelled, verifies under the verifier key of another. So the origin must be compared, and
    a witness's signature alone is not the log's.

    Raises what `open_note` and `parse_checkpoint` raise; NoteUntrusted where only others signed;
    CheckpointInvalid where the text speaks of another log.
    """
    opened = open_note(note, keys)
    if all(key.name != origin for key in opened.signers):
        raise NoteUntrusted("no signature is by the log's own key")
    checkpoint = parse_checkpoint(opened.text)
    if checkpoint.origin != origin:
        raise CheckpointInvalid("the checkpoint is another log's")
    return checkpoint


def text_of(note: str) -> str:
    """Return a note's text, which nobody may have signed: to learn of which log it speaks. Raises NoteMalformed."""
    return _split(note)[0]


def signers_named(note: str) -> list[tuple[str, bytes]]:
    """Return the name and the 4-byte id of each key that a note's signatures name, in order; nothing is verified.

    Raises NoteMalformed for what is no note.
    """
    return [(name, identifier) for name, identifier, _ in map(_read_signature, _split(note)[1])]


def _by_name_and_id(keys: Iterable[VerifierKey]) -> dict[tuple[str, bytes], VerifierKey]:
    known: dict[tuple[str, bytes], VerifierKey] = {}
    for key in keys:
        if known.setdefault((key.name, key.id), key) != key:
            raise VerifierKeyInvalid("two keys share a name and an id")
    return known


def _split(note: str) -> tuple[str, list[str]]:
    # The last empty line separates: the text may hold others.
    text, separator, signatures = note.rpartition("\n\n")
    lines = signatures.split("\n")
    if FORBIDDEN.search(note) or not separator or lines.pop() != "":
        raise NoteMalformed("not a text, an empty line and signatures")
    if not 1 <= len(lines) <= MAX_SIGNATURES:
        raise NoteMalformed(f"a note has 1 to {MAX_SIGNATURES} signatures")
    return text + "\n", lines


def _read_signature(line: str) -> tuple[str, bytes, bytes]:
    name, _, encoded = line.removeprefix(SIGNATURE_PREFIX).partition(" ")
    decoded = _decode(encoded)
    if not line.startswith(SIGNATURE_PREFIX) or not _is_key_name(name):
        raise NoteMalformed("a signature line does not name its key")
    if decoded is None or len(decoded) <= KEY_ID_BYTES:
        raise NoteMalformed("a signature is not base64 of a key id and a signature")
    return name, decoded[:KEY_ID_BYTES], decoded[KEY_ID_BYTES:]


def _is_key_name(name: str) -> bool:
    return bool(name) and not FORBIDDEN.search(name) and not any(c.isspace() or c == "+" for c in name)


def _encode(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def _decode(text: str) -> bytes | None:
    # Encoding again refuses what decoders let pass: spare bits in the last character.
    try:
        octets = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return octets if _encode(octets) == text else None
