"""Signed notes and the checkpoints in them (C2SP signed-note and tlog-checkpoint; spec LEDGER, Bytes 6 and 7)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from keystead.errors import ConfigurationError
from keystead.ledger.errors import BundleMalformed, CheckpointInconsistent, NoteUntrusted
from keystead.ledger.tree import EMPTY_ROOT, HASH_BYTES

MAX_ORIGIN_BYTES: Final = 200
MAX_SIGNATURES: Final = 100
MAX_SIZE: Final = 2**53
ED25519: Final = b"\x01"
_KEY_BYTES: Final = 32
_KEY_ID_BYTES: Final = 4
_DASH: Final = "— "
_ORIGIN: Final = re.compile(
    r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*/ledger/(?P<organization>org_[a-z0-9_]+)(?:/(?P<epoch>[2-9]|[1-9][0-9]+))?",
    re.ASCII,
)
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)
# A note is text without controls but the ends of its lines.
_CONTROL: Final = re.compile("[\x00-\x09\x0b-\x1f\ud800-\udfff]")


@dataclass(frozen=True)
class Checkpoint:
    """The state of a log that was signed.

    Args:
        origin: the log's name.
        size: its number of entries.
        root: over them, 32 bytes.
        signers: the known keys that signed it.
    """

    origin: str
    size: int
    root: bytes
    signers: tuple[VerifierKey, ...]

    @property
    def epoch(self) -> int:
        """Return which of the organization's logs it is, from 1."""
        found = _ORIGIN.fullmatch(self.origin)
        return int(found["epoch"] or 1) if found else 1

    @property
    def organization_id(self) -> str:
        """Return whose log it is."""
        found = _ORIGIN.fullmatch(self.origin)
        return found["organization"] if found else ""


@dataclass(frozen=True)
class VerifierKey:
    """An Ed25519 public key under the name of who signs with it: for a log's own key, the log's name."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        """Return the 4 bytes that name it in a note. They tell keys apart and prove nothing."""
        return sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:_KEY_ID_BYTES]

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Read `name+id+base64`, as the portal publishes it.

        Raises:
            BundleMalformed: it is none.
        """
        # The base64 may hold a plus, the name may not.
        name, _, rest = text.partition("+")
        claimed, _, encoded = rest.partition("+")
        octets = decoded(encoded)
        if not _is_name(name) or octets is None or octets[:1] != ED25519 or len(octets) != 1 + _KEY_BYTES:
            raise BundleMalformed("not a verifier key of an Ed25519 key")
        key = cls(name, octets[1:])
        if claimed != key.id.hex():
            raise BundleMalformed("a verifier key whose id is not its own")
        return key

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(ED25519 + self.public).decode()}"


def parse_keys(texts: Iterable[str]) -> tuple[VerifierKey, ...]:
    """Read verifier keys, each once.

    Raises:
        BundleMalformed: one is none, or two share a name and an id.
    """
    keys = tuple(dict.fromkeys(map(VerifierKey.parse, texts)))
    if len({(key.name, key.id) for key in keys}) != len(keys):
        raise BundleMalformed("two verifier keys share a name and an id")
    return keys


def open_checkpoint(note: bytes, keys: Sequence[VerifierKey], *, origin: str | None = None) -> Checkpoint:
    """Return what a note says, where the log's own key signed it and that is one of `keys`.

    Signatures by other keys are ignored; one that claims to be by one of `keys` and is not refuses the whole note.

    Raises:
        BundleMalformed: it is no note of a checkpoint.
        NoteUntrusted: no signature by the log's own key, or a forged one.
        CheckpointInconsistent: it speaks of another log than `origin`.
        ConfigurationError: the extra `crypto` is not installed.
    """
    text, signatures = _split(note)
    checkpoint = _read(text, _signers(text, signatures, keys))
    if origin is not None and checkpoint.origin != origin:
        raise CheckpointInconsistent("it is another log's")
    # One key pair serves many logs: a witness's signature, or another log's, says nothing for this one.
    if all(key.name != checkpoint.origin for key in checkpoint.signers):
        raise NoteUntrusted("no signature is by the log's own key")
    return checkpoint


def decoded(text: str) -> bytes | None:
    """Return what base64 with padding stands for, None for any other spelling of it."""
    try:
        octets = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return octets if base64.b64encode(octets).decode() == text else None


def is_origin(text: str) -> bool:
    """Tell whether this is a log's name (spec LEDGER, Bytes 1)."""
    return len(text) <= MAX_ORIGIN_BYTES and _ORIGIN.fullmatch(text) is not None


def _split(note: bytes) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    try:
        whole = note.decode()
    except UnicodeDecodeError:
        raise BundleMalformed("a note is text in UTF-8") from None
    text, blank, signed = whole.rpartition("\n\n")
    lines = signed.split("\n")
    if _CONTROL.search(whole) or not blank or lines.pop() != "":
        raise BundleMalformed("a note is a text, an empty line and signatures")
    if not 1 <= len(lines) <= MAX_SIGNATURES:
        raise BundleMalformed(f"a note has 1 to {MAX_SIGNATURES} signatures")
    return text + "\n", list(map(_signature, lines))


def _signature(line: str) -> tuple[str, bytes, bytes]:
    name, _, encoded = line[len(_DASH) :].partition(" ")
    octets = decoded(encoded)
    if not line.startswith(_DASH) or not _is_name(name):
        raise BundleMalformed("a signature of a note does not name its key")
    if octets is None or len(octets) <= _KEY_ID_BYTES:
        raise BundleMalformed("a signature of a note is not base64 of a key's id and a signature")
    return name, octets[:_KEY_ID_BYTES], octets[_KEY_ID_BYTES:]


def _signers(
    text: str, signatures: Iterable[tuple[str, bytes, bytes]], keys: Sequence[VerifierKey]
) -> tuple[VerifierKey, ...]:
    known = {(key.name, key.id): key for key in keys}
    found: dict[VerifierKey, None] = {}
    for name, key_id, signature in signatures:
        key = known.get((name, key_id))
        if key is not None:
            _verify(key, signature, text.encode())
            found[key] = None
    if not found:
        raise NoteUntrusted("no signature is by a trusted key")
    return tuple(found)


def _verify(key: VerifierKey, signature: bytes, text: bytes) -> None:
    known = crypto()
    try:
        known.ed25519.Ed25519PublicKey.from_public_bytes(key.public).verify(signature, text)
    except (known.InvalidSignature, ValueError):
        raise NoteUntrusted(f"a signature claims to be by the key {key.id.hex()} and is not") from None


def _read(text: str, signers: tuple[VerifierKey, ...]) -> Checkpoint:
    lines = text.split("\n")
    if len(lines) == 4 and lines[3] == "" and _SIZE.fullmatch(lines[1]):  # noqa: PLR2004 - its three lines
        origin, size, root = lines[0], int(lines[1]), decoded(lines[2])
        fits = root is not None and len(root) == HASH_BYTES and (size > 0 or root == EMPTY_ROOT)
        if root and fits and is_origin(origin) and size <= MAX_SIZE:
            return Checkpoint(origin, size, root, signers)
    raise BundleMalformed("a checkpoint is the log's name, its size and its root")


def _is_name(name: str) -> bool:
    return (
        bool(name) and not _CONTROL.search(name) and not any(each.isspace() or each == "+" for each in name)
    )


class crypto:  # noqa: N801 - stands for the package
    """The parts of `cryptography` that are needed, when they are needed."""

    def __init__(self) -> None:
        try:
            from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
            from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415
        except ImportError:
            raise ConfigurationError("Install keystead[crypto] to check signatures.") from None
        self.InvalidSignature = InvalidSignature
        self.ed25519: Any = ed25519
