"""Rotations in pages: those that run, and the others by the time they began, none skipped and none shown twice."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db.models import Q
from django.http import Http404

from keys import progress
from keys.models import Rotation
from keys.models.rotation import RotationQuerySet
from keys.pages import history
from keys.pages.history import Turn
from keys.progress import Progress

ID: Final = re.compile(r"rot_[a-z2-7]{20}")
PAGE: Final = 50
MOST_RUNNING: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One rotation in a list; how far it has come where it runs."""

    turn: Turn
    progress: Progress | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A page of rotations. `newer` and `older` are ids to go on from, or empty. Only the first page has `running`."""

    running: Sequence[Row]
    has_more_running: bool
    ended: Sequence[Row]
    newer: str
    older: str


def listed(visible: RotationQuerySet, query: Mapping[str, str], now: datetime) -> Listed:
    """Return the page that `before` or `after` asks for, else the first; raises `Http404` for what is not visible."""
    before, after = query.get("before", ""), query.get("after", "")
    ended = visible.ended(now)
    if after:
        found = list(_past(ended, visible, after, is_newer=True)[: PAGE + 1])
        shown, has_newer, has_older = found[:PAGE][::-1], len(found) > PAGE, True
    else:
        found = list((_past(ended, visible, before) if before else _newest(ended))[: PAGE + 1])
        shown, has_newer, has_older = found[:PAGE], bool(before), len(found) > PAGE
    running = [] if before or after else list(_newest(visible.running(now))[: MOST_RUNNING + 1])
    reached = progress.of_many(running[:MOST_RUNNING], now)
    return Listed(
        running=[
            Row(turn=turn, progress=reached[turn.rotation.id])
            for turn in history.turns_of(running[:MOST_RUNNING], now)
        ],
        has_more_running=len(running) > MOST_RUNNING,
        ended=[Row(turn=turn, progress=None) for turn in history.turns_of(shown, now)],
        newer=shown[0].id if shown and has_newer else "",
        older=shown[-1].id if shown and has_older else "",
    )


def _newest(found: RotationQuerySet) -> RotationQuerySet:
    return found.order_by("-started_at", "-id")


def _past(
    found: RotationQuerySet, visible: RotationQuerySet, place: str, *, is_newer: bool = False
) -> RotationQuerySet:
    """Return what lies before a rotation in the list, from there upwards, or behind it."""
    there: Rotation | None = visible.filter(pk=place).first() if ID.fullmatch(place) else None
    if there is None:
        raise Http404
    at, id_ = there.started_at, there.id
    if is_newer:
        newer = Q(started_at__gt=at) | Q(started_at=at, id__gt=id_)
        return found.filter(newer).order_by("started_at", "id")
    return _newest(found.filter(Q(started_at__lt=at) | Q(started_at=at, id__lt=id_)))
