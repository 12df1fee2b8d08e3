"""One search over every organization's entries: recorded for each organization whose entries it shows, or not shown.

A definer function finds the places (migrations/support.sql); then each organization's ledger hears of it in a
transaction of its own, in which its entries are read too. What could not be recorded is left out, and that is said.
"""

import base64
import binascii
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime
from itertools import groupby
from typing import Any, Final

from django.db import DatabaseError, OperationalError, connection

from audit import access, paging, ports, searching, services, tenancy
from audit.actors import Actor
from audit.acts import Act
from audit.describe import Line
from audit.errors import LedgerUnavailable
from audit.models import Entry, SupportSession
from audit.ports import Customer
from audit.support.forms import Asked

PAGE_SIZE: Final = 50
MOST_PEOPLE: Final = 10
MOST_CUSTOMERS: Final = 50
# The search may take so long, and so may the telling: whose ledger does not answer must not hold up the page.
PATIENCE: Final = "SET LOCAL statement_timeout = '10s'"
MOST_SECONDS: Final = 15.0
ID: Final = re.compile(r"[a-z]{3}_[a-z0-9_]{1,60}")
CURSOR: Final = re.compile(r"([^|]{20,40})\|(org_[a-z0-9_]{1,60})?\|(\d{1,4})\|(\d{1,18})")
FIND: Final = """
    SELECT organization_id, epoch, index, at, is_hit FROM audit_search_everywhere(
        %s::text[], %s, %s::text[], %s::text[], %s, %s, %s::text[], %s, %s, %s, %s, %s, %s, %s)
"""

type Place = tuple[str, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where the next page begins: after an entry, or, without an organization, at a time."""

    at: datetime
    organization_id: str = ""
    epoch: int = 0
    index: int = 0

    def written(self) -> str:
        """Return it as an address has it."""
        text = f"{self.at.isoformat()}|{self.organization_id}|{self.epoch}|{self.index}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> "Cursor | None":
        """Return what `written` wrote; None for anything else, which begins at the newest."""
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
            if (parts := CURSOR.fullmatch(raw)) is None:
                return None
            at = datetime.fromisoformat(parts[1])
        except (ValueError, binascii.Error):
            return None
        if at.tzinfo is None or not 1 < at.year < MAXYEAR:
            return None
        # As the database takes it: it knows no zones a day away.
        at = at.astimezone(UTC)
        return cls(at=at, organization_id=parts[2] or "", epoch=int(parts[3]), index=int(parts[4]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One entry that was found, with whose it is."""

    line: Line
    customer: Customer


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """One page of what was found, the newest first.

    `older` is the next page's cursor. `reached` says how far back everything was looked at, where the search stopped
    there. `hidden` counts organizations whose ledgers could not hear of it. `unknown`: nobody is called that.
    """

    hits: Sequence[Hit] = ()
    customers: Sequence[Customer] = ()
    older: str = ""
    reached: datetime | None = None
    hidden: int = 0
    unknown: str = ""
    is_too_much: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Support staff as readers of one organization's entries, for this page alone."""

    actor: Actor
    organization_id: str
    reads_whole_log: bool = True
    reads_own_log: bool = True
    may_erase: bool = False
    may_change_webhooks: bool = False

    @property
    def id(self) -> str:
        """The staff person's id."""
        return self.actor.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What was asked, with people and organizations as ids; None for any."""

    asked: Asked
    actors: list[str] | None
    customers: list[Customer] | None


def search(session: SupportSession, asked: Asked, before: str, *, actor: Actor) -> Results:
    """Search, record it, and return what may be shown.

    Writes `support.viewed` into the operator's ledger, and into that of each organization of which entries are shown.

    Args:
        session: the searches that it is one of; its reason is what customers read.
        asked: not empty.
        before: the cursor of a page, or "".
        actor: the staff person.

    Raises:
        LedgerUnavailable: the operator's ledger can't be written; nothing is shown.
        SupportRefused: the searches ended meanwhile; nothing is shown.
    """
    cursor = Cursor.read(before) if before else None
    with tenancy.everywhere(tenancy.Reason.SUPPORT_SEARCH):
        scope = _scope(asked)
    found: list[tuple[Place, datetime]] = []
    reached, is_too_much, unknown = None, False, _unknown(scope)
    if not unknown:
        try:
            found, reached = _find(scope, cursor)
        except OperationalError:
            # It took too long.
            is_too_much = True
    counts = _counts(found)
    services.record_search(session, _in_words(asked), actor=actor, found=counts)
    lines = _told(session, asked, found, counts, actor=actor)
    with tenancy.everywhere(tenancy.Reason.SUPPORT_SEARCH):
        customers = _directory().customers(list(lines))
    rows = {place: line for each in lines.values() for place, line in each.items()}
    return Results(
        hits=[Hit(line=rows[place], customer=customers[place[0]]) for place, _ in found if place in rows],
        customers=[] if cursor else scope.customers or [],
        older=_older(found, reached),
        reached=reached,
        hidden=len(counts) - len(lines),
        unknown=unknown,
        is_too_much=is_too_much,
    )


def _scope(asked: Asked) -> Scope:
    actors = customers = None
    if asked.who:
        is_id = ID.fullmatch(asked.who) is not None
        actors = [asked.who] if is_id else list(_directory().find_people(asked.who, MOST_PEOPLE))
    if asked.organization:
        customers = list(_directory().find_customers(asked.organization, MOST_CUSTOMERS))
    return Scope(asked=asked, actors=actors, customers=customers)


def _unknown(scope: Scope) -> str:
    if scope.actors == []:
        return "person"
    return "organization" if scope.customers == [] else ""


def _find(scope: Scope, cursor: Cursor | None) -> tuple[list[tuple[Place, datetime]], datetime | None]:
    """Return places with their times, and how far back the search came where it gave up."""
    asked = scope.asked
    target = asked.target if ID.fullmatch(asked.target) else ""
    # What has a name and no id: its words, one after another.
    named = f'"{asked.target}" ' if asked.target and not target else ""
    words, is_prefix = searching.chunks(named.replace('""', '"') + asked.words)
    parameters: list[Any] = [
        words,
        is_prefix,
        scope.actors,
        list(asked.acts) or None,
        target or None,
        asked.request_id or None,
        None if scope.customers is None else [each.id for each in scope.customers],
        asked.since,
        asked.until,
        cursor.at if cursor else None,
        (cursor.organization_id or None) if cursor else None,
        cursor.epoch if cursor else None,
        cursor.index if cursor else None,
        PAGE_SIZE,
    ]
    with tenancy.everywhere(tenancy.Reason.SUPPORT_SEARCH), connection.cursor() as db:
        db.execute(PATIENCE)
        db.execute(FIND, parameters)
        rows: list[tuple[str, int, int, datetime, bool]] = db.fetchall()
    found = [((organization, epoch, index), at) for organization, epoch, index, at, is_hit in rows if is_hit]
    return found, next((at for *_, at, is_hit in rows if not is_hit), None)


def _counts(found: Sequence[tuple[Place, datetime]]) -> dict[str, int]:
    ids = sorted(place[0] for place, _ in found)
    return {organization_id: len(list(group)) for organization_id, group in groupby(ids)}


def _told(
    session: SupportSession,
    asked: Asked,
    found: Sequence[tuple[Place, datetime]],
    counts: Mapping[str, int],
    *,
    actor: Actor,
) -> dict[str, dict[Place, Line]]:
    """Tell each organization in order of id, and return the lines of those whose ledgers have it now.

    Earlier searches for the same words are left out, unless they are what is asked for.
    """
    shown: dict[str, dict[Place, Line]] = {}
    give_up_at = time.monotonic() + MOST_SECONDS
    for organization_id in counts:
        if time.monotonic() > give_up_at:
            break
        places = [place for place, _ in found if place[0] == organization_id]
        try:
            lines = _lines(organization_id, places, actor)
            if organization_id == session.organization_id and not asked.acts:
                lines = {place: line for place, line in lines.items() if line.act != Act.SUPPORT_VIEWED}
            if lines:
                services.tell_of_search(session, organization_id, actor=actor, entries=len(lines))
        except (LedgerUnavailable, DatabaseError):
            continue
        shown[organization_id] = lines
    return shown


def _lines(organization_id: str, places: Sequence[Place], actor: Actor) -> dict[Place, Line]:
    with tenancy.within(organization_id):
        found = paging.entries_at(Entry.objects.of(organization_id), [place[1:] for place in places])
        lines = access.lines(Reader(actor=actor, organization_id=organization_id), found)
    return {(organization_id, *line.place): line for line in lines}


def _older(found: Sequence[tuple[Place, datetime]], reached: datetime | None) -> str:
    if len(found) == PAGE_SIZE:
        (organization_id, epoch, index), at = found[-1]
        return Cursor(at=at, organization_id=organization_id, epoch=epoch, index=index).written()
    return Cursor(at=reached).written() if reached else ""


def _in_words(asked: Asked) -> str:
    """Return what was asked as the operator's ledger seals it."""
    told = {
        "who": asked.who,
        "act": ", ".join(asked.acts),
        "what": asked.target,
        "request": asked.request_id,
        "organization": asked.organization,
        "words": asked.words,
        "from": asked.since.isoformat() if asked.since else "",
        "to": asked.until.isoformat() if asked.until else "",
    }
    return " · ".join(f"{name}: {text}" for name, text in told.items() if text)


def _directory() -> ports.SupportDirectory:
    return ports.support[0]
