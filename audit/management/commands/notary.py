"""Make the pair of keys with which the notary signs checkpoints (spec LEDGER, “Writing”)."""

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = (
        "notary init: makes the Ed25519 pair that signs checkpoints: private.pem for the notary's process alone, "
        "public.pem for the web process. Nothing is overwritten: a lost or leaked key is a new epoch."
    )
    requires_system_checks = []  # noqa: RUF012 - BaseCommand declares it so

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        init = actions.add_parser("init", help="make the pair of keys")
        init.add_argument("--folder", type=Path, help="where; else the folder notary in KEYSTEAD_HOME")

    def handle(self, *, folder: Path | None, **_options: Any) -> None:
        public = self._init((folder or Path(settings.KEYSTEAD_HOME) / "notary").absolute())
        self.stdout.write(f"{public}\nLEDGER_PUBLIC_KEY_FILE={public}")

    def _init(self, folder: Path) -> Path:
        private, public = folder / "private.pem", folder / "public.pem"
        if existing := [path for path in (private, public) if path.exists() or path.is_symlink()]:
            raise CommandError(f"{existing[0]} exists already; nothing was changed.")
        key = Ed25519PrivateKey.generate()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
            _write(
                public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644
            )
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}") from error
        return public


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a new file that is never there with other rights, and is on the disk when this returns."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
