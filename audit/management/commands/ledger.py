"""Recompute ledgers from their rows, and go on in a new epoch where one can't go on (spec LEDGER)."""

import base64
import time
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connections

from audit import note, stored, tenancy
from audit.actors import Actor
from audit.errors import LedgerFaulty, LedgerUnavailable, NotaryRefused, ReopeningRefused
from audit.management import erasing
from audit.models import Checkpoint, Entry
from audit.signatures import keeping, last_notes, notary_pulse, reopening
from audit.signatures.key_files import KeyFilesError
from audit.signatures.last_notes import LastNote
from audit.tree import Tree, leaf_hash
from audit.verify import Row, Verified, verify

COMMAND: Final = Actor.system("command")
PROGRESS_SECONDS = 2
SETUP_FAULT = 2


class Command(BaseCommand):
    help = (
        "ledger verify: recomputes every ledger, or one, from its rows, through the notary's login. Exit 0: "
        "everything fits (size and root of each are printed); 1: the first entry that does not fit is named; 2: it "
        "could not be read. It compares with the checkpoints in the database too; a superuser who rewrites a whole "
        "chain, its head and those is found by a checkpoint that somebody else holds, and by the running notary. "
        "ledger reopen: goes on in a new epoch, where the notary refuses to sign because the database was set back or "
        "changed, or (--force) the signing key is no longer secret. Stop the notary first. The new epoch's first entry "
        "carries the last checkpoint of the old one, from the notary's folder or --checkpoint. Nothing is deleted, and "
        "nothing undoes it."
    )
    requires_system_checks = []  # noqa: RUF012 - BaseCommand declares it so

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        check = actions.add_parser("verify", help="recompute and compare")
        check.add_argument("--organization", metavar="org_…", default="", help="one ledger alone, by its id")
        again = actions.add_parser("reopen", help="go on in a new epoch")
        which = again.add_mutually_exclusive_group(required=True)
        which.add_argument("--organization", metavar="org_…", default="", help="one ledger, by its id")
        which.add_argument("--all", action="store_true", help="every ledger that can't go on")
        again.add_argument("--reason", required=True, help="why, for the ledger's readers; sealed")
        again.add_argument(
            "--folder", type=Path, help="the notary's; else the folder notary in KEYSTEAD_HOME"
        )
        again.add_argument("--checkpoint", type=Path, help="a file with the last note that was signed")
        again.add_argument("--force", action="store_true", help="also where nothing is wrong with the ledger")
        erasing.add_arguments(actions.add_parser("erase", help=erasing.HELP, description=erasing.DESCRIPTION))

    def handle(self, *, action: str, **options: Any) -> None:
        acts = {"verify": self._verify_all, "reopen": self._reopen_all, "erase": self._erase}
        acts[action](**options)

    def _erase(self, *, organization: str, **options: Any) -> None:
        erasing.erase(organization, options, self.stdout.write)

    def _verify_all(self, *, organization: str, **_options: Any) -> None:
        if "notary" not in connections.settings:
            raise CommandError("DATABASE_NOTARY_URL is not set.", returncode=SETUP_FAULT)
        try:
            if organization and stored.head(organization) is None and not any(stored.rows(organization)):
                raise CommandError(f"There is no ledger of {organization}.", returncode=SETUP_FAULT)
            for each in [organization] if organization else stored.organizations():
                self._verify(each)
        except DatabaseError as error:
            reason = str(error).strip().partition("\n")[0]
            raise CommandError(f"The ledger can't be read: {reason}", returncode=SETUP_FAULT) from error

    def _verify(self, organization_id: str) -> None:
        try:
            with stored.snapshot():
                ledger = stored.ledger(organization_id)
                rows = self._with_progress(organization_id, ledger.rows)
                signed = stored.signed(organization_id)
                found = verify(organization_id, ledger.head, rows, ledger.openings, signed)
        except LedgerFaulty as fault:
            raise CommandError(f"{organization_id}  {fault}") from fault
        self.stdout.write(_line(organization_id, found))

    def _with_progress(self, organization_id: str, rows: Iterable[Row]) -> Iterator[Row]:
        told = time.monotonic()
        for count, row in enumerate(rows):
            if time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                self.stderr.write(f"{organization_id}  {count} entries …")
            yield row

    def _reopen_all(self, *, organization: str, folder: Path | None, **options: Any) -> None:
        try:
            if options["checkpoint"]:
                self._reopen_from(options["checkpoint"], organization, options["reason"])
                return
            with last_notes.held((folder or Path(settings.KEYSTEAD_HOME) / "notary").absolute()) as notes:
                for last in _chosen(notes, organization, is_forced=options["force"]):
                    self._reopen(last.organization_id, last.note, options["reason"])
        except (NotaryRefused, KeyFilesError, ReopeningRefused, LedgerUnavailable) as error:
            raise CommandError(f"Refused: {error}", returncode=SETUP_FAULT) from error
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}", returncode=SETUP_FAULT) from error
        except DatabaseError as error:
            reason = str(error).strip().partition("\n")[0]
            raise CommandError(f"The database refuses: {reason}", returncode=SETUP_FAULT) from error

    def _reopen_from(self, file: Path, organization: str, reason: str) -> None:
        if not organization:
            raise CommandError("--checkpoint is of one ledger: name its --organization.")
        if not notary_pulse.read().is_missing:
            raise CommandError("The notary runs: stop it first, and wait for half a minute.")
        _check_exists(organization)
        self._reopen(organization, file.read_bytes().decode(errors="replace"), reason)

    def _reopen(self, organization_id: str, checkpoint: str, reason: str) -> None:
        done = reopening.reopen_ledger(organization_id, checkpoint, actor=COMMAND, reason=reason)
        self.stdout.write(
            f"{organization_id}  goes on as {done.log}: {done.left} entries were left, {done.signed} were signed."
        )


def _chosen(notes: dict[str, LastNote], organization: str, *, is_forced: bool) -> list[LastNote]:
    """Return the last notes of the ledgers that are to be reopened; raises `CommandError` where one can't be."""
    if organization:
        _check_exists(organization)
        if organization not in notes:
            raise CommandError(f"The notary's file does not know the ledger of {organization}.")
    alarmed = {alarm.organization_id for alarm in notary_pulse.read().alarms}
    chosen = []
    for organization_id in [organization] if organization else keeping.organizations():
        last = notes.get(organization_id)
        if last and (is_forced or _needs(last, is_alarmed=organization_id in alarmed)):
            _check_newest(last)
            chosen.append(last)
    if not chosen:
        raise CommandError("Nothing is wrong there: all that was signed is there, or was reopened already.")
    return chosen


def _needs(last: LastNote, *, is_alarmed: bool) -> bool:
    """Whether a ledger can't go on as it was signed: then no alarm ends by itself, and the notary signs nothing."""
    with tenancy.within(last.organization_id):
        first = Entry.objects.of(last.organization_id).filter(index=0).newest_first().first()
        if first is not None and first.epoch > last.epoch:
            return not _carries(first, last)
        return is_alarmed or not _stands(last)


def _carries(first: Entry, last: LastNote) -> bool:
    carried = first.parsed().data.get("checkpoint")
    return isinstance(carried, str) and note.text_of(carried) == note.text_of(last.note)


def _stands(last: LastNote) -> bool:
    """Whether what was signed is there, to the bit: from the leaves."""
    tree = Tree()
    for row in stored.rows(last.organization_id, using="default"):
        if row.epoch == last.epoch and row.index < last.size:
            tree.append(leaf_hash(row.leaf))
    return (tree.size, tree.root()) == (last.size, last.root)


def _check_newest(last: LastNote) -> None:
    with tenancy.within(last.organization_id):
        published = Checkpoint.objects.of(last.organization_id).newest()
    if last.contradicts(published):
        raise CommandError(
            f"{last.organization_id}: more is published than the notary's file knows: this is not its newest file."
        )


def _check_exists(organization_id: str) -> None:
    with tenancy.within(organization_id):
        if not Entry.objects.of(organization_id).exists():
            raise CommandError(f"There is no ledger of {organization_id}.", returncode=SETUP_FAULT)


def _line(organization_id: str, found: Verified) -> str:
    root = base64.b64encode(found.root).decode()
    return f"{organization_id}  epoch {found.epoch}  size {found.size}  root {root}"
