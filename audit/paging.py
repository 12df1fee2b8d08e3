"""Pages of a list that grows at its front: by the place of an entry, or by time and id, none skipped or shown twice."""

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Model, Q, QuerySet
from django.http import Http404

from audit.models import Entry, EntryQuerySet
from audit.searching import Found

MOST_DIGITS = {"epoch": 4, "index": 18}  # of a smallint and a bigint


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Entries, newest first; `newer` and `older` are cursors to the pages beside this one, or empty.

    `reached`: the time up to which the look for them came where it gave up, and the next page goes on; else None.
    """

    entries: Sequence[Entry]
    newer: str
    older: str
    reached: datetime | None = None


def page(entries: EntryQuerySet, query: Mapping[str, str], size: int, find: Callable[..., Found]) -> Page:
    """Return the page that `before` or `after` in the address asks for, else the newest; raises `Http404`.

    `find` looks for places as `searching.find` does; what it finds is read from `entries`, what is not there is left
    out. Two queries, and one more where the look gave up.
    """
    before, after = query.get("before", ""), query.get("after", "")
    bounds = {"after": read(after)} if after else {"before": read(before)} if before else {}
    found = find(**bounds, most=size + 1, oldest_first=bool(after))
    shown = entries_at(entries, found.places[:size])
    # Where this direction goes on, and whence it came; a page that shows nothing still leads back.
    last = found.places[size - 1] if len(found.places) > size else found.reached
    onward = written(last) if last else ""
    back = _back(bounds, found, is_ascending=bool(after)) if bounds else ""
    return Page(
        entries=shown[::-1] if after else shown,
        newer=onward if after else back,
        older=back if after else onward,
        reached=_time_of(entries, found.reached) if found.reached and len(found.places) <= size else None,
    )


def _back(bounds: Mapping[str, tuple[int, int]], found: Found, *, is_ascending: bool) -> str:
    if found.places:
        return written(found.places[0])
    epoch, index = next(iter(bounds.values()))
    index += 1 if is_ascending else -1
    return written((epoch, index)) if index >= 0 else ""


def entries_at(entries: EntryQuerySet, places: Sequence[tuple[int, int]]) -> list[Entry]:
    """Return those of the entries that stand at some places, in the order of these."""
    wanted = Q()
    for epoch in {epoch for epoch, _ in places}:
        wanted |= Q(epoch=epoch, index__in=[index for e, index in places if e == epoch])
    found = {entry.place: entry for entry in entries.filter(wanted)} if places else {}
    return [found[place] for place in places if place in found]


def _time_of(entries: EntryQuerySet, place: tuple[int, int]) -> datetime | None:
    return entries.filter(epoch=place[0], index=place[1]).values_list("at", flat=True).first()


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
