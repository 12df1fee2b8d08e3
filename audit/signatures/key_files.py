"""The files of the pairs of keys that sign checkpoints; nothing that is there is ever overwritten.

`private.pem` and `public.pem` are the first pair, `private-2.pem` the next. `public-2.pem` holds the public halves of
every pair so far, oldest first: it is what the web process is given (`LEDGER_PUBLIC_KEY_FILE`).
"""

import os
import re
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

FIRST: Final = "private.pem"
FURTHER: Final = re.compile(r"private-([1-9][0-9]*)\.pem")


class KeyFilesError(Exception):
    """The files are not as they must be; the text is for people and holds no key."""


def private_keys(folder: Path) -> list[Ed25519PrivateKey]:
    """Return the private keys in a folder, oldest first. Secret.

    Raises `KeyFilesError` where there is none, or one is no Ed25519 key without a password, and `OSError`.
    """
    paths = [folder / FIRST, *(path for _, path in sorted(_further(folder)))]
    keys = [_read(path) for path in paths if path.exists()]
    if not keys:
        raise KeyFilesError(f"there is no {FIRST} in {folder}: run manage.py notary init")
    return keys


def make_first(folder: Path) -> Path:
    """Make the first pair, and the folder where it is missing; return the public half's file.

    Raises `KeyFilesError` where one is there, and `OSError`.
    """
    private, public = folder / FIRST, folder / "public.pem"
    _refuse_existing(private, public)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write_pair(private, public, [Ed25519PrivateKey.generate()])
    return public


def make_next(folder: Path) -> Path:
    """Make the next pair; return the file that holds the public halves of all, oldest first.

    Raises `KeyFilesError` where the earlier ones can't be read, and `OSError`.
    """
    earlier = private_keys(folder)
    number = 1 + max([1, *(number for number, _ in _further(folder))])
    private, public = folder / f"private-{number}.pem", folder / f"public-{number}.pem"
    _refuse_existing(private, public)
    _write_pair(private, public, [*earlier, Ed25519PrivateKey.generate()])
    return public


def _further(folder: Path) -> list[tuple[int, Path]]:
    return [(int(found[1]), path) for path in folder.iterdir() if (found := FURTHER.fullmatch(path.name))]


def _read(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFilesError(f"{path} is no Ed25519 key without a password")
    return key


def _refuse_existing(*paths: Path) -> None:
    if existing := [path for path in paths if path.exists() or path.is_symlink()]:
        raise KeyFilesError(f"{existing[0]} exists already; nothing was changed.")


def _write_pair(private: Path, public: Path, keys: list[Ed25519PrivateKey]) -> None:
    """Write the last key's private half, then the public halves of all: who has these finds the notary ready."""
    _write(private, keys[-1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    halves = (key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for key in keys)
    _write(public, b"".join(halves), 0o644)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a new file that is never there with other rights, and is on the disk when this returns."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
