"""Finding entries: by words, actor, act, target, request and time, page by page, at a bounded cost at any size.

One function of the database finds the places (migrations/search.sql): along an index where one filter alone is set,
else by the blocks of words that the worker keeps. It looks at so much and no more; where it gave up, it says how far it
came, and the next page goes on from there.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import connection, transaction

from audit import tenancy

type Place = tuple[int, int]

CHUNK: Final = re.compile(r'"([^"]*)"?|(\S+)')
EDGES: Final = re.compile(r"^[\W_]+|[\W_]+$")
FIRST: Final[Place] = (0, -1)
LAST: Final[Place] = (32767, 9223372036854775807)
MOST_BLOCKS: Final = 32
FIND: Final = """
    SELECT at_epoch, at_index, is_hit FROM audit_search(%s::text[], %s, %s, %s::text[], %s, %s, %s, %s, %s,
        %s, %s::bigint, %s, %s::bigint, %s, %s)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What entries are looked for; what is empty or None asks for nothing.

    `text`: words, each of which the entry holds, or phrases in quotation marks; the last word may go on. `acts` are of
    one group, all of them, or one. `since` is included, `until` is not.
    """

    text: str = ""
    actor: str = ""
    acts: tuple[str, ...] = ()
    target: str = ""
    request_id: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Places in the order of the look. `reached`: where it gave up with less than was asked for; None at the end."""

    places: Sequence[Place]
    reached: Place | None


def chunks(text: str) -> tuple[list[str], bool]:
    """Return the words and phrases of what was typed, and whether the last of them may go on."""
    found = [(EDGES.sub("", quoted or bare), not quoted) for quoted, bare in CHUNK.findall(text)]
    kept = [(chunk, is_open) for chunk, is_open in found if chunk]
    return [chunk for chunk, _ in kept], bool(kept) and kept[-1][1]


def find(
    wanted: Wanted,
    *,
    most: int,
    after: Place = FIRST,
    before: Place = LAST,
    oldest_first: bool = False,
    own: bool = False,
) -> Found:
    """Return up to `most` places strictly between two, in the organization that the transaction works in.

    With `own` only entries of `wanted.actor` are so much as looked at. One query, whatever is asked and found.
    """
    words, is_prefix = chunks(wanted.text)
    if wanted.text.strip() and not words:
        return Found(places=(), reached=None)
    conditions = [
        wanted.actor or None,
        list(wanted.acts) or None,
        wanted.target or None,
        wanted.request_id or None,
    ]
    bounds = [wanted.since, wanted.until, *after, *before, oldest_first, most]
    with connection.cursor() as cursor:
        cursor.execute(FIND, [words, is_prefix, *conditions, own, *bounds])
        rows: list[tuple[int, int, bool]] = cursor.fetchall()
    reached = next(((epoch, index) for epoch, index, is_hit in rows if not is_hit), None)
    return Found(places=[(epoch, index) for epoch, index, is_hit in rows if is_hit], reached=reached)


def behind() -> list[str]:
    """Return the organizations with entries whose words nobody has kept yet, or not again since an erasure."""
    with tenancy.everywhere(tenancy.Reason.WORKER), connection.cursor() as cursor:
        cursor.execute("SELECT audit_search_behind()")
        return [organization_id for (organization_id,) in cursor.fetchall()]


def lag() -> int:
    """Return how many entries of all organizations wait for the worker to keep their words, in blocks of 64.

    They are found all the same, one by one, until a search gives up sooner than it should.
    """
    with tenancy.everywhere(tenancy.Reason.HEALTH), connection.cursor() as cursor:
        cursor.execute("SELECT audit_search_lag()")
        row: tuple[int] = cursor.fetchone()
    return row[0]


def keep_words(organization_id: str, *, most: int = MOST_BLOCKS) -> int:
    """Keep the words of up to `most` blocks of 64 entries in a transaction of its own; return how many it were.

    0: nothing is left to do. Two workers at once wait for each other and do each block once.
    """
    with transaction.atomic(), tenancy.within(organization_id), connection.cursor() as cursor:
        cursor.execute("SELECT audit_search_write(%s)", [most])
        row: tuple[int] = cursor.fetchone()
    return row[0]
