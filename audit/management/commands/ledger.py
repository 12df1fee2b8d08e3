"""Recompute ledgers from their rows (spec LEDGER, “Holding it”)."""

import base64
import time
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connections

from audit import stored
from audit.errors import LedgerFaulty
from audit.verify import Row, Verified, verify

PROGRESS_SECONDS = 2
SETUP_FAULT = 2


class Command(BaseCommand):
    help = (
        "ledger verify: recomputes every ledger, or one, from its rows, through the notary's login. Exit 0: "
        "everything fits (size and root of each are printed); 1: the first entry that does not fit is named; 2: it "
        "could not be read. A superuser who rewrites a whole chain and its head consistently is not found by this: "
        "compare the root with a checkpoint that somebody else holds."
    )
    requires_system_checks = []  # noqa: RUF012 - BaseCommand declares it so

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        check = actions.add_parser("verify", help="recompute and compare")
        check.add_argument("--organization", metavar="org_…", default="", help="one ledger alone, by its id")

    def handle(self, *, organization: str, **_options: Any) -> None:
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
                rows = self._with_progress(organization_id, stored.rows(organization_id))
                found = verify(
                    organization_id, stored.head(organization_id), rows, stored.openings(organization_id)
                )
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


def _line(organization_id: str, found: Verified) -> str:
    root = base64.b64encode(found.root).decode()
    return f"{organization_id}  epoch {found.epoch}  size {found.size}  root {root}"
