"""The only door to an organization's entries: what a member may read, else 404 for all alike."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Final

from django.conf import settings
from django.db import connection
from django.http import Http404

from audit import describe, paging, ports, searching
from audit import entry as entry_rules
from audit.acts import Act
from audit.describe import Line
from audit.entry import ParsedEntry
from audit.erasing import erasures
from audit.errors import EntryInvalid
from audit.models import Checkpoint, Entry, EntryQuerySet, Sealed
from audit.paging import Page
from audit.ports import Reader
from audit.searching import Wanted
from audit.verify import Opening, opening_fits

type Place = tuple[int, int]

MOST_ACTORS: Final = 200
OF_ACTOR: Final = frozenset({"name", "email", "ip", "user_agent"})
# Each actor is found by one step along the index, so that a long ledger costs as little as a short one.
ACTORS: Final = """
    WITH RECURSIVE actors AS (
        (SELECT actor FROM audit_entry WHERE organization_id = %(organization)s ORDER BY actor LIMIT 1)
        UNION ALL
        SELECT (SELECT e.actor FROM audit_entry e WHERE e.organization_id = %(organization)s AND e.actor > a.actor
                ORDER BY e.actor LIMIT 1)
        FROM actors a WHERE a.actor IS NOT NULL
    )
    SELECT a.actor, coalesce((SELECT s.value FROM audit_sealed s
        WHERE (s.organization_id, s.epoch, s.index) = (%(organization)s, last.epoch, last.index)
            AND s.field IN ('name', 'email') ORDER BY s.field DESC LIMIT 1), '')
    FROM (SELECT actor FROM actors WHERE actor IS NOT NULL LIMIT %(most)s) a
    CROSS JOIN LATERAL (SELECT e.epoch, e.index FROM audit_entry e
        WHERE e.organization_id = %(organization)s AND e.actor = a.actor
        ORDER BY e.epoch DESC, e.index DESC LIMIT 1) last
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedField:
    """One sealed value of an entry: personal data. `fits` is None where nothing is there to compare any more.

    `erased_by` is the entry that says so, with its time; None where none does: then it was taken away.
    """

    name: str
    value: str
    commitment: str
    fits: bool | None
    erased_by: tuple[Place, datetime] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An entry with the values that are there of what it sealed, or the act that it is part of did.

    `parsed` is None where the leaf bytes are no entry any more.
    """

    entry: Entry
    parsed: ParsedEntry | None
    opened: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """Everything that one entry's page shows. `parsed` is None where the leaf bytes are no entry any more.

    `follows` says whether the entry before it is the one that `prev` names; None where that can't be compared.
    """

    entry: Entry
    line: Line
    parsed: ParsedEntry | None
    sealed: Sequence[SealedField]
    follows: bool | None
    previous: Place | None
    next: Place | None


def entries(member: Reader) -> EntryQuerySet:
    """Return the entries that a member may read; raises `Http404` for whom the log is closed."""
    if member.reads_whole_log:
        return Entry.objects.of(member.organization_id)
    if member.reads_own_log:
        return Entry.objects.of(member.organization_id).filter(actor=member.id)
    raise Http404


def search(member: Reader, wanted: Wanted, query: Mapping[str, str], size: int) -> Page:
    """Return one page of what is wanted among the entries that a member may read; raises `Http404` as `entries`.

    Whoever reads only what they did themselves learns nothing of others' entries, not by how long it takes either.
    """
    readable, find = entries(member), _finder(member, wanted)
    return paging.page(readable, query, size, find) if find else Page(entries=[], newer="", older="")


def is_there(member: Reader, wanted: Wanted) -> bool:
    """Tell whether one bounded look finds any entry that is wanted and that the member may read."""
    find = _finder(member, wanted)
    return bool(find and find(most=1).places)


def _finder(member: Reader, wanted: Wanted) -> Callable[..., searching.Found] | None:
    """Return the search as it may look for a member; None where they may see nothing of what is wanted."""
    if member.reads_whole_log:
        return partial(searching.find, wanted)
    if not member.reads_own_log or wanted.actor not in ("", member.id):
        return None
    return partial(searching.find, replace(wanted, actor=member.id), own=True)


def entries_for_target(member: Reader, target_id: str, *, limit: int = 50) -> list[Line]:
    """Return the newest entries about one object, newest first: those that the member may read, perhaps none."""
    if not member.reads_own_log:
        return []
    return lines(member, list(entries(member).filter(target=target_id).newest_first()[:limit]))


def lines(member: Reader, found: Sequence[Entry]) -> list[Line]:
    """Return entries that came from here as a list shows them, with the personal data that they sealed."""
    parsed = {entry.place: _parsed(entry) for entry in found}
    organization_id = member.organization_id
    openings = _openings(organization_id, list(parsed)) | _of_wholes(organization_id, found, parsed)
    return [_line(entry, parsed[entry.place], openings.get(entry.place, [])) for entry in found]


def entry(member: Reader, place: Place) -> Detail:
    """Return one entry with its neighbours among those that the member may read; raises `Http404`."""
    readable = entries(member)
    found = readable.filter(epoch=place[0], index=place[1]).first()
    if found is None:
        raise Http404
    parsed = _parsed(found)
    openings = _openings(member.organization_id, [place]).get(place, [])
    whole = _of_wholes(member.organization_id, [found], {place: parsed}).get(place, [])
    return Detail(
        entry=found,
        line=_line(found, parsed, [*whole, *openings]),
        parsed=parsed,
        sealed=_sealed(parsed, openings, _erasures(found, parsed, openings)),
        follows=_follows(found, parsed),
        previous=_place(readable.before(*place).newest_first().first()),
        next=_place(readable.after(*place).oldest_first().first()),
    )


def opened(organization_id: str, found: Sequence[Entry]) -> list[Found]:
    """Return an organization's entries with what they sealed, as `lines` does, for whom every entry is shown."""
    parsed = {entry.place: _parsed(entry) for entry in found}
    own = _openings(organization_id, list(parsed))
    wholes = _of_wholes(organization_id, found, parsed)
    return [
        Found(
            entry=entry,
            parsed=parsed[entry.place],
            opened={o.field: o.value for o in (*wholes.get(entry.place, ()), *own.get(entry.place, ()))},
        )
        for entry in found
    ]


def told(entry: Entry) -> Mapping[str, Any]:
    """Return what an entry says, without what it seals; nothing where its bytes are no entry any more."""
    parsed = _parsed(entry)
    return parsed.data if parsed else {}


def revocable(member: Reader, ids: Collection[str]) -> dict[str, str]:
    """Return, for those of the ids that the member may stop for good, the path of the page that does."""
    asked = {id_ for id_ in ids if id_}
    return {id_: path for say in ports.revocable for id_, path in say(member, asked).items()} if asked else {}


def actors(member: Reader) -> list[tuple[str, str]]:
    """Return (id, newest name) of those who acted, at most 200, in order of id; of oneself alone where that is all."""
    if not member.reads_whole_log:
        return []
    with connection.cursor() as cursor:
        cursor.execute(ACTORS, {"organization": member.organization_id, "most": MOST_ACTORS})
        found: list[tuple[str, str]] = cursor.fetchall()
    return found


def _parsed(entry: Entry) -> ParsedEntry | None:
    try:
        return entry.parsed()
    except EntryInvalid:
        return None


def _line(entry: Entry, parsed: ParsedEntry | None, openings: Iterable[Opening]) -> Line:
    data: Mapping[str, object] = parsed.data if parsed else {}
    return Line(
        place=entry.place,
        act=entry.act,
        at=entry.at,
        actor=entry.actor,
        target=entry.target,
        request_id=entry.request_id,
        summary=describe.describe(entry.act, data),
        name=str(data.get("name") or ""),
        is_readable=parsed is not None,
        openings={opening.field: opening.value for opening in openings},
    )


def _openings(organization_id: str, places: Sequence[Place]) -> dict[Place, list[Opening]]:
    found: dict[Place, list[Opening]] = {}
    for epoch in {epoch for epoch, _ in places}:
        rows = Sealed.objects.filter(
            organization_id=organization_id,
            epoch=epoch,
            index__in=[i for e, i in places if e == epoch],
        )
        for row in rows.order_by("index", "field"):
            opening = Opening(
                epoch=epoch, index=row.index, field=row.field, salt=bytes(row.salt), value=row.value
            )
            found.setdefault(opening.position, []).append(opening)
    return found


def _of_wholes(
    organization_id: str, found: Sequence[Entry], parsed: Mapping[Place, ParsedEntry | None]
) -> dict[Place, list[Opening]]:
    """Return, for entries that are part of an act, what that act's own entry sealed of the actor.

    By the same actor only: so whoever may read the part may read the whole, and nobody else's name gets there.
    """
    parts = {
        entry.place: (str(read.data["part_of"]), entry.actor)
        for entry in found
        if (read := parsed[entry.place]) is not None and read.data.get("part_of")
    }
    if not parts:
        return {}
    wholes = Entry.objects.of(organization_id).filter(target__in={target for target, _ in parts.values()})
    places = {(entry.target, entry.actor): entry.place for entry in wholes.oldest_first()}
    openings = _openings(organization_id, list(places.values()))
    return {
        part: [o for o in openings.get(places.get(whole, (0, -1)), []) if o.field in OF_ACTOR]
        for part, whole in parts.items()
    }


def _erasures(
    entry: Entry, parsed: ParsedEntry | None, openings: Iterable[Opening]
) -> dict[str, tuple[Place, datetime]]:
    """Return, for each sealed field whose opening is gone, the first entry that says it was erased."""
    missing = {*(parsed.sealed if parsed else ())} - {opening.field for opening in openings}
    found: dict[str, tuple[Place, datetime]] = {}
    if not missing:
        return found
    later = Entry.objects.of(entry.organization_id).filter(act=Act.LEDGER_ERASURE).after(*entry.place)
    for each in later.oldest_first().iterator():
        told = _parsed(each)
        erasure = erasures.read(told.data, each.epoch) if told else None
        if erasure and erasure.epoch == entry.epoch and entry.index in erasure.entries:
            found = dict.fromkeys(missing & {*erasure.fields}, (each.place, each.at)) | found
        if missing <= found.keys():
            break
    return found


def _sealed(
    parsed: ParsedEntry | None,
    openings: Iterable[Opening],
    erased: Mapping[str, tuple[Place, datetime]],
) -> list[SealedField]:
    by_field = {opening.field: opening for opening in openings}
    commitments = parsed.sealed if parsed else {}
    return [
        SealedField(
            name=describe.label_of(name),
            value=opening.value if (opening := by_field.get(name)) else "",
            commitment=commitment,
            fits=opening_fits(opening, commitment) if opening else None,
            erased_by=erased.get(name),
        )
        for name, commitment in sorted(commitments.items())
    ]


def _follows(entry: Entry, parsed: ParsedEntry | None) -> bool | None:
    if parsed is None or entry.index == 0:
        return None
    before = Entry.objects.of(entry.organization_id).filter(epoch=entry.epoch, index=entry.index - 1).first()
    return before is not None and before.leaf_hash() == parsed.prev


def _place(entry: Entry | None) -> Place | None:
    return entry.place if entry else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkable:
    """What somebody needs to check an organization's newest log: its name, what is signed, an entry to begin with.

    `index` is of an entry that is signed, not the first, and sealed `field` where there is such a one ("" if not).
    """

    origin: str
    epoch: int
    checkpoint: Checkpoint | None
    index: int
    field: str


def checkable(member: Reader) -> Checkable:
    """Return what checking takes, to everybody who reads an entry; raises `Http404` for whom the log is closed."""
    if not member.reads_own_log:
        raise Http404
    organization_id = member.organization_id
    checkpoint = Checkpoint.objects.of(organization_id).newest()
    last = Entry.objects.of(organization_id).newest_first().first()
    epoch = checkpoint.epoch if checkpoint else last.epoch if last else 1
    parsed = _parsed(last) if last and last.epoch == epoch else None
    signed = Sealed.objects.filter(
        organization_id=organization_id, epoch=epoch, index__lt=checkpoint.size if checkpoint else 2**53
    )
    # `email` first of the fields of the last one.
    found = signed.order_by("-index", "field").first()
    return Checkable(
        # The host is fixed when the ledger opens: the entries know it better than the settings.
        origin=parsed.log
        if parsed
        else entry_rules.origin(settings.LEDGER_ORIGIN_HOST, organization_id, epoch),
        epoch=epoch,
        checkpoint=checkpoint,
        index=found.index if found else max(1, (checkpoint.size if checkpoint else 2) - 1),
        field=found.field if found else "",
    )
