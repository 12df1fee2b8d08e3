"""The notary: its process, how it stands, and the keys with which it signs (spec LEDGER, “The notary” and Bytes 13)."""

from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connections

from audit.errors import NotaryRefused
from audit.notary import starting, status
from audit.notary.running import Notary
from audit.notary.state import locked
from audit.signatures import key_files
from audit.signatures.key_files import KeyFilesError

AFTERWARDS = (
    "Restart the web and worker processes with this setting, and the notary: new ledgers open with the new key, the\n"
    "others say so within ten minutes (ledger.key_added), and from then on the notary signs with both. 90 days later\n"
    "the older key is retired (ledger.key_retired). Keep the file of the older key until then."
)
FAILED = 1
REFUSED = 2


class Command(BaseCommand):
    help = (
        "notary init: makes the Ed25519 pair that signs checkpoints: private.pem for the notary's process alone, "
        "public.pem for the web process. notary rotate-key: makes the next pair, private-2.pem, and public-2.pem with "
        "the public halves of all. Nothing is overwritten: a lost or leaked key is a new epoch (ledger reopen). "
        "notary run: signs what grew and recomputes every ledger, until SIGTERM; needs DATABASE_NOTARY_URL with a "
        "direct connection. Exit 0: it was stopped; 1: its file or the database failed; 2: it refuses to sign, and "
        "says why. notary status: how far every ledger is signed; exit 1 where an alarm stands or no notary runs. "
        "notary adopt: makes a lost file anew from the published checkpoints."
    )
    requires_system_checks = []  # noqa: RUF012 - BaseCommand declares it so

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", title="actions; without one: run")
        parser.set_defaults(action="run", folder=None, take_over=False, rounds=None)
        for name, what in (
            ("init", "make the first pair of keys"),
            ("rotate-key", "make the next pair of keys"),
            ("run", "sign and watch until told to stop"),
            ("status", "say how far every ledger is signed"),
            ("adopt", "begin anew from the published checkpoints"),
        ):
            action = actions.add_parser(name, help=what)
            action.add_argument("--folder", type=Path, help="where; else the folder notary in KEYSTEAD_HOME")
            if name == "run":
                self._add_options_of_run(action)

    def _add_options_of_run(self, action: ArgumentParser) -> None:
        action.add_argument(
            "--take-over",
            action="store_true",
            help="take the place of another that ended at least 30 s ago and does not come back",
        )
        action.add_argument("--rounds", type=int, help="end after so many rounds, for tests")

    def handle(self, *, action: str, folder: Path | None, **options: Any) -> None:
        where = (folder or Path(settings.KEYSTEAD_HOME) / "notary").absolute()
        acts: dict[str, Callable[..., None]] = {
            "init": self._init,
            "rotate-key": self._rotate_key,
            "run": self._run,
            "status": self._status,
            "adopt": self._adopt,
        }
        if action in {"run", "status", "adopt"} and "notary" not in connections.settings:
            raise CommandError("DATABASE_NOTARY_URL is not set.", returncode=REFUSED)
        try:
            acts[action](where, **options)
        except KeyFilesError as error:
            raise CommandError(str(error)) from error
        except NotaryRefused as error:
            raise CommandError(f"The notary refuses: {error}.", returncode=REFUSED) from error
        except OSError as error:
            raise CommandError(f"{error.filename or where}: {error.strerror}", returncode=FAILED) from error
        except DatabaseError as error:
            reason = str(error).strip().partition("\n")[0]
            raise CommandError(f"The database refuses: {reason}", returncode=FAILED) from error

    def _init(self, folder: Path, **_options: Any) -> None:
        self._made(key_files.make_first(folder))

    def _rotate_key(self, folder: Path, **_options: Any) -> None:
        self._made(key_files.make_next(folder))
        self.stderr.write(AFTERWARDS)

    def _made(self, public: Path) -> None:
        self.stdout.write(f"{public}\nLEDGER_PUBLIC_KEY_FILE={public}")

    def _run(self, folder: Path, *, take_over: bool, rounds: int | None, **_options: Any) -> None:
        notary = Notary(folder, take_over=take_over)
        if rounds is None:
            notary.run()
        else:
            notary.run_rounds(rounds)

    def _status(self, _folder: Path, **_options: Any) -> None:
        found = status.read()
        for line in found.lines():
            self.stdout.write(line)
        if not found.is_well:
            raise CommandError(found.trouble, returncode=FAILED)

    def _adopt(self, folder: Path, **_options: Any) -> None:
        with locked(folder):
            adopted = starting.adopt(folder, starting.signers(folder))
        for each in adopted:
            fits = "" if each.fits else "  ITS ENTRIES DO NOT FIT"
            self.stdout.write(f"{each.signed.origin}  size {each.signed.point.size}{fits}")
        self.stdout.write(f"{len(adopted)} logs adopted.")
