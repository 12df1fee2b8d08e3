"""`manage.py ledger erase`: a person's sealed data, in one ledger or in every one."""

from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from typing import Any, Final

from django.core.management.base import CommandError
from django.db import DatabaseError, connection

from audit import ports, tenancy
from audit.actors import Actor
from audit.errors import LedgerUnavailable
from audit.services import erasing

HELP: Final = "erase what ledgers seal of a person"
DESCRIPTION: Final = (
    "Deletes the sealed values of a person's entries and of those about them; the entries, the roots and every signed "
    "checkpoint stay as they are, and an entry ledger.erasure tells of it. What was exported before is out of reach. "
    "Exit 0: done; 1: not all of it could be done, and running it again goes on."
)
COMMAND: Final = Actor.system("command")
NEXT: Final = "SELECT min(organization_id) FROM audit_entry WHERE organization_id > %s"
type Write = Callable[[str], object]


def add_arguments(parser: ArgumentParser) -> None:
    """Add what `erase` takes."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--organization", metavar="org_…", default="", help="one ledger, by its id")
    where.add_argument("--everywhere", action="store_true", help="every ledger, one after the other")
    parser.add_argument("--person", required=True, metavar="usr_…|E-MAIL", help="whose data")
    parser.add_argument("--notes", action="store_true", help="and the free text that they wrote")
    parser.add_argument("--reason", default="", help="why, such as a ticket's number; sealed in the entry")
    parser.add_argument("--dry-run", action="store_true", help="only count")


def erase(organization: str, options: dict[str, Any], write: Write) -> None:
    """Erase, or count, and write a line for each ledger that holds something. Raises `CommandError`."""
    person_id, addresses = _person(options["person"])
    failed = []
    # A ledger that holds nothing of the person needn't say that it was asked.
    told = _count if options["dry_run"] else _erase if organization else _erase_if_any
    for each in [organization] if organization else _organizations():
        try:
            said = told(each, person_id, addresses, options)
        except (DatabaseError, LedgerUnavailable) as error:
            failed.append(f"{each}  {str(error).strip().partition('\n')[0]}")
            continue
        if said or organization:
            write(f"{each}  {said or 'nothing found'}")
    if failed:
        raise CommandError("\n".join(failed))


def _person(text: str) -> tuple[str, list[str]]:
    """Return the id and the addresses of an account; of whoever has none, the address alone."""
    with tenancy.everywhere(tenancy.Reason.COMMAND):
        found = [person(text) for person in ports.person]
    person_id, addresses = next((each for each in found if each[0]), ("", ()))
    if person_id:
        return person_id, list(addresses)
    if "@" in text:
        return "", [text]
    if text.startswith("usr_"):
        return text, []
    raise CommandError("--person takes the id of an account (usr_…) or an e-mail address.")


def _organizations() -> Iterator[str]:
    after = ""
    while True:
        with tenancy.everywhere(tenancy.Reason.COMMAND), connection.cursor() as cursor:
            cursor.execute(NEXT, [after])
            found = cursor.fetchone()[0]
        if found is None:
            return
        after = found
        yield found


def _count(organization_id: str, person_id: str, addresses: list[str], options: dict[str, Any]) -> str:
    with tenancy.within(organization_id):
        sought = erasing.sought_of(organization_id, person_id, addresses, with_notes=options["notes"])
        entries, fields, is_all = erasing.survey(organization_id, sought)
    more = "" if is_all else " or more"
    return f"would erase {fields}{more} fields of {entries}{more} entries" if entries or not is_all else ""


def _erase_if_any(organization_id: str, person_id: str, addresses: list[str], options: dict[str, Any]) -> str:
    is_any = _count(organization_id, person_id, addresses, options)
    return _erase(organization_id, person_id, addresses, options) if is_any else ""


def _erase(organization_id: str, person_id: str, addresses: list[str], options: dict[str, Any]) -> str:
    erasure = erasing.erase_person(
        organization_id,
        person_id,
        actor=COMMAND,
        addresses=addresses,
        with_notes=options["notes"],
        note=options["reason"],
    )
    while erasing.advance_erasure(organization_id, erasure.id):
        pass
    with tenancy.within(organization_id):
        erasure.refresh_from_db()
    return f"erased {erasure.fields} fields of {erasure.entries} entries" if erasure.entries else ""
