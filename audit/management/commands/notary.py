"""Make the pairs of keys with which the notary signs checkpoints (spec LEDGER, “Writing” and Bytes 13)."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from audit import key_files
from audit.key_files import KeyFilesError

AFTERWARDS = (
    "Restart the web and worker processes with this setting: new ledgers open with the new key, the others say so\n"
    "within ten minutes (ledger.key_added), and from then on the notary signs with both. 90 days later the older key\n"
    "is retired (ledger.key_retired). Keep the file of the older key until then."
)


class Command(BaseCommand):
    help = (
        "notary init: makes the Ed25519 pair that signs checkpoints: private.pem for the notary's process alone, "
        "public.pem for the web process. notary rotate-key: makes the next pair, private-2.pem, and public-2.pem with "
        "the public halves of all. Nothing is overwritten: a lost or leaked key is a new epoch (ledger reopen)."
    )
    requires_system_checks = []  # noqa: RUF012 - BaseCommand declares it so

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        for name, what in (
            ("init", "make the first pair of keys"),
            ("rotate-key", "make the next pair of keys"),
        ):
            action = actions.add_parser(name, help=what)
            action.add_argument("--folder", type=Path, help="where; else the folder notary in KEYSTEAD_HOME")

    def handle(self, *, action: str, folder: Path | None, **_options: Any) -> None:
        where = (folder or Path(settings.KEYSTEAD_HOME) / "notary").absolute()
        try:
            public = key_files.make_first(where) if action == "init" else key_files.make_next(where)
        except KeyFilesError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}") from error
        self.stdout.write(f"{public}\nLEDGER_PUBLIC_KEY_FILE={public}")
        if action != "init":
            self.stderr.write(AFTERWARDS)
