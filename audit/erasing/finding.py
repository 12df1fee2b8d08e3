"""Finding a person's data in a ledger: which sealed fields are theirs, and which are others'.

Theirs are what their own entries say of them as the actor, what entries about them say, and their address wherever it
is written. Whoever else is named in an entry of theirs is not them, and what they wrote is for the one who erases to
decide.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from django.db import connection

from audit import entry as entry_rules
from audit.access import OF_ACTOR
from audit.errors import EntryInvalid

type Position = tuple[int, int]

# Stands for a text that was erased. Triggers know it, too: nothing else may be written over some columns.
ERASED: Final = "(erased)"
BEFORE_ALL: Final[Position] = (1, -1)
# Of whom an entry speaks: an address and the name that goes with it.
PAIRS: Final = {"email": "name", "member_email": "member_name", "user_email": "user_name"}
OF_OTHERS: Final = frozenset({"member_email", "member_name", "user_email", "user_name"})
# Addresses of machines, where a key was used first.
OF_NOBODY: Final = frozenset({"address"})
END = """
    SELECT epoch, index, count(*) OVER () FROM (SELECT epoch, index FROM audit_entry
        WHERE organization_id = %(organization)s AND (epoch, index) > (%(epoch)s, %(index)s)
        ORDER BY epoch, index LIMIT %(most)s) page
    ORDER BY epoch DESC, index DESC LIMIT 1
"""
CANDIDATES = """
    SELECT s.epoch, s.index, e.act, e.target, s.field, s.value, e.actor = %(person)s, e.target = %(person)s,
        CASE WHEN e.act LIKE 'member.%%' THEN e.leaf END
    FROM audit_entry e JOIN audit_sealed s USING (organization_id, epoch, index)
    WHERE e.organization_id = %(organization)s AND (e.epoch, e.index) > (%(epoch)s, %(index)s)
        AND (e.epoch, e.index) <= (%(last_epoch)s, %(last_index)s)
        AND (e.actor = %(person)s OR e.target = %(person)s OR e.act LIKE 'member.%%'
            OR EXISTS (SELECT FROM unnest(%(addresses)s::text[]) a WHERE strpos(lower(s.value), a) > 0))
    ORDER BY s.epoch, s.index, s.field
"""
# The oldest and the newest of their entries: an address that they had once stands in those.
OWN_ADDRESSES = """
    SELECT DISTINCT lower(s.value) FROM (
        (SELECT epoch, index FROM audit_entry WHERE organization_id = %(organization)s AND actor = %(person)s
            ORDER BY epoch, index LIMIT 500)
        UNION
        (SELECT epoch, index FROM audit_entry WHERE organization_id = %(organization)s AND actor = %(person)s
            ORDER BY epoch DESC, index DESC LIMIT 500)) e
    JOIN audit_sealed s USING (epoch, index)
    WHERE s.organization_id = %(organization)s AND s.field = 'email'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """Whose data: `person_id` ("" for nobody with an account), e-mail addresses in lower case; personal data."""

    person_id: str
    addresses: Sequence[str]
    with_notes: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A sealed field that is theirs, with what it holds: personal data. `act` and `target` are its entry's."""

    position: Position
    act: str
    target: str
    field: str
    value: str


@dataclass(frozen=True, slots=True)
class _Candidate:
    position: Position
    act: str
    target: str
    field: str
    value: str
    is_own: bool
    is_target: bool
    leaf: bytes | None


def page(
    organization_id: str, sought: Sought, after: Position, most: int
) -> tuple[list[Found], Position, int]:
    """Return what is theirs in the next `most` entries, the last entry looked at, and how many those were.

    Run it within the organization. No entry was left where that number is 0.
    """
    where: dict[str, Any] = {"organization": organization_id, "epoch": after[0], "index": after[1]}
    with connection.cursor() as cursor:
        cursor.execute(END, where | {"most": most})
        end = cursor.fetchone()
        if end is None:
            return [], after, 0
        where |= {"last_epoch": end[0], "last_index": end[1], "person": sought.person_id}
        cursor.execute(CANDIDATES, where | {"addresses": list(sought.addresses)})
        rows = cursor.fetchall()
    candidates = [_Candidate((epoch, index), *rest) for epoch, index, *rest in rows]
    return list(_theirs(candidates, sought)), (end[0], end[1]), end[2]


def own_addresses(organization_id: str, person_id: str) -> list[str]:
    """Return the e-mail addresses with which a person acted, in lower case; of the newest and oldest 500 entries."""
    with connection.cursor() as cursor:
        cursor.execute(OWN_ADDRESSES, {"organization": organization_id, "person": person_id})
        return [address for (address,) in cursor.fetchall()]


def mentions(text: str, addresses: Collection[str]) -> bool:
    """Tell whether one of the addresses, in lower case, stands in a text as a whole."""
    return any(_pattern(address).search(text) for address in addresses)


def without(text: str, values: Collection[str]) -> str:
    """Return a text in which `ERASED` stands for each value, as a whole word and in whatever case."""
    for value in sorted(values, key=len, reverse=True):
        text = _pattern(value).sub(ERASED, text)
    return text


def _pattern(value: str) -> re.Pattern[str]:
    # Not inside another address: bob@example.com is not jimbob@example.com, nor bob@example.com.au.
    return re.compile(rf"(?<![\w.+-]){re.escape(value)}(?![\w-])(?!\.\w)", re.IGNORECASE)


def _theirs(candidates: Sequence[_Candidate], sought: Sought) -> Iterator[Found]:
    for _, group in groupby(candidates, key=lambda candidate: candidate.position):
        entry = {candidate.field: candidate for candidate in group}
        fields = {field for field, candidate in entry.items() if _is_theirs(candidate, sought)}
        fields |= {PAIRS[field] for field in fields & PAIRS.keys()} & entry.keys()
        for field in sorted(fields):
            one = entry[field]
            yield Found(one.position, one.act, one.target, field, one.value)


def _is_theirs(candidate: _Candidate, sought: Sought) -> bool:
    field = candidate.field
    if field in PAIRS and candidate.value.lower() in sought.addresses:
        return True
    if field in OF_OTHERS:
        return candidate.is_target or (bool(sought.person_id) and _user(candidate.leaf) == sought.person_id)
    if candidate.is_own and field not in OF_NOBODY and (field in OF_ACTOR or sought.with_notes):
        return True
    return field not in OF_ACTOR and mentions(candidate.value, sought.addresses)


def _user(leaf: bytes | None) -> object:
    """Return whom an entry about a membership speaks of."""
    try:
        data: Mapping[str, Any] = entry_rules.parse(bytes(leaf)).data if leaf is not None else {}
    except EntryInvalid:
        return None
    return data.get("user")
