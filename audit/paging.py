"""Pages of a list that grows at its front: by the place of an entry, or by time and id, none skipped or shown twice."""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Model, Q, QuerySet
from django.http import Http404

from audit.models import Entry, EntryQuerySet

MOST_DIGITS = {"epoch": 4, "index": 18}  # of a smallint and a bigint


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Entries, newest first; `newer` and `older` are cursors to the pages beside this one, or empty."""

    entries: Sequence[Entry]
    newer: str
    older: str


def page(entries: EntryQuerySet, query: Mapping[str, str], size: int) -> Page:
    """Return the page that `before` or `after` in the address asks for, else the newest; raises `Http404`."""
    before, after = query.get("before", ""), query.get("after", "")
    if after:
        found = list(entries.after(*read(after)).oldest_first()[: size + 1])
        shown = found[:size][::-1]
        return _page(shown, has_newer=len(found) > size, has_older=True)
    older = entries.before(*read(before)) if before else entries
    found = list(older.newest_first()[: size + 1])
    return _page(found[:size], has_newer=bool(before), has_older=len(found) > size)


def read(text: str) -> tuple[int, int]:
    """Read `INDEX` (of epoch 1) or `EPOCH-INDEX`; raises `Http404` for anything that no entry can have."""
    epoch, dash, index = text.rpartition("-")
    epoch = epoch if dash else "1"
    for number, most in ((epoch, MOST_DIGITS["epoch"]), (index, MOST_DIGITS["index"])):
        if not (number.isascii() and number.isdigit() and len(number) <= most):
            raise Http404
    return int(epoch), int(index)


def written(place: tuple[int, int]) -> str:
    """Return a place as `read` reads it."""
    epoch, index = place
    return str(index) if epoch == 1 else f"{epoch}-{index}"


def _page(entries: Sequence[Entry], *, has_newer: bool, has_older: bool) -> Page:
    return Page(
        entries=entries,
        newer=written(entries[0].place) if entries and has_newer else "",
        older=written(entries[-1].place) if entries and has_older else "",
    )


def by_time[M: Model](
    rows: QuerySet[M], column: str, before: str | None, size: int, *, ids: re.Pattern[str]
) -> tuple[Sequence[M], str]:
    """Return one page, the newest first by `column` and id, and the cursor of the next, "" at the end.

    `before` is such a cursor, None for the first page; raises `ValueError` for one that is none, or whose id `ids` does
    not match.
    """
    found = rows.order_by(f"-{column}", "-id")
    if before is not None:
        at, id_ = _decoded(before, ids)
        found = found.filter(Q(**{f"{column}__lt": at}) | Q(**{column: at}, id__lt=id_))
    shown = list(found[: size + 1])
    return shown[:size], _encoded(shown[size - 1], column) if len(shown) > size else ""


def _encoded(last: Model, column: str) -> str:
    text = f"{getattr(last, column).isoformat()}|{last.pk}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decoded(cursor: str, ids: re.Pattern[str]) -> tuple[datetime, str]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except binascii.Error:
        raise ValueError("no cursor") from None
    time, _, id_ = text.partition("|")
    at = datetime.fromisoformat(time)
    if at.tzinfo is None or not ids.fullmatch(id_):
        raise ValueError("no cursor")
    return at, id_
