"""What happened to a key's secrets: its versions with their last use, its rotations, and who is behind an id."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from keys import rotation
from keys.models import ApiKey, KeySecret, KeyUse, Leak, Rotation, SecretUse
from keys.rotation import State
from orgs.models import User

BUSY_FOR = timedelta(hours=1)
PARTS = {
    "sys_scanning": "secret scanning",
    "sys_burning": "whoever held its secret",
    "sys_worker": "the worker",
}
WORKING = frozenset({"newest", "accepted"})
# In percent of a time line, as wide as a phone shows it.
ROOM_FOR_VERSION = 8
ROOM_FOR_WORDS = 33


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a key's secret, as pages show it. `state`: newest, accepted, retired or expired."""

    secret: KeySecret
    last_used_at: datetime | None
    state: str

    @property
    def accepted_until(self) -> datetime | None:
        """Until when a newer one leaves it accepted; None where no time ends it."""
        return rotation.known_end(self.secret.accepted_until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One rotation: what it was, who began it, and what it has come to."""

    rotation: Rotation
    by: str
    state: State
    is_overdue: bool

    @property
    def ended_at(self) -> datetime:
        """When it ended; of one that has."""
        course = self.rotation.course
        ends = (course.ends_at, course.completed_at, course.cancelled_at, course.superseded_at)
        return min(at for at in ends if at is not None)

    @property
    def old_until(self) -> datetime | None:
        """When the old secret stopped, or will; None while nothing but the targets ends it, and after a cancel."""
        turn = self.rotation
        if turn.cancelled_at is not None:
            return None
        return turn.completed_at or turn.course.superseded_at or turn.stops_at


def versions(key: ApiKey, now: datetime) -> list[Version]:
    """Return every version of a key's secret, the newest first."""
    used = dict(SecretUse.objects.filter(key_id=key.id).values_list("version", "last_used_at"))
    return [
        Version(
            secret=secret,
            last_used_at=used.get(secret.version),
            state=_state(secret, key.newest_version, now),
        )
        for secret in KeySecret.objects.filter(key=key).order_by("-version")
    ]


def _state(secret: KeySecret, newest: int, now: datetime) -> str:
    if rotation.is_retired(secret.version, newest, secret.accepted_until, now):
        return "retired"
    if rotation.is_expired(secret.expires_at, now):
        return "expired"
    return "newest" if secret.version == newest else "accepted"


def turns(key: ApiKey, now: datetime) -> list[Turn]:
    """Return a key's rotations, the newest first."""
    return turns_of(list(Rotation.objects.filter(key=key).select_related("key")), now)


def turns_of(found: Sequence[Rotation], now: datetime) -> list[Turn]:
    """Return rotations, read with their keys, as pages show them."""
    names = names_of({turn.started_by for turn in found})
    return [
        Turn(
            rotation=turn,
            by=names.get(turn.started_by, turn.started_by),
            state=turn.state(now),
            is_overdue=turn.is_overdue(now),
        )
        for turn in found
    ]


def running(key: ApiKey, now: datetime) -> Rotation | None:
    """Return the rotation that is running, if any."""
    return Rotation.objects.running(now).filter(key=key).first()


def use(key: ApiKey) -> KeyUse | None:
    """Return when and from where a key was last used; it may never have been."""
    return KeyUse.objects.filter(key_id=key.id).first()


def is_busy(key: ApiKey, now: datetime) -> bool:
    """Return whether a key carried traffic within the last hour."""
    found = use(key)
    return found is not None and found.last_used_at is not None and now - found.last_used_at < BUSY_FOR


def names_of(ids: Collection[str]) -> dict[str, str]:
    """Return the names of people, keys and the product's own parts; of whom the reader can't see, nothing."""
    people = {user.id: str(user) for user in User.objects.filter(pk__in=ids)}
    keys = dict(ApiKey.objects.filter(pk__in=ids).values_list("id", "name"))
    return {**keys, **people, **{part: PARTS[part] for part in ids if part in PARTS}}


def timeline_of(turn: Rotation, now: datetime) -> dict[str, Any]:
    """Return the time line of a rotation that there is."""
    ended = turn.completed_at or turn.cancelled_at or turn.course.superseded_at
    end = turn.grace_ends_at if ended is None else min(ended, turn.grace_ends_at)
    mark = now if turn.is_running(now) else None
    return timeline(
        turn.old_version,
        turn.new_version,
        start=turn.started_at,
        end=end,
        now=mark,
        deadline=turn.deadline if mark else None,
        is_cancelled=turn.cancelled_at is not None,
    )


def timeline(
    old: int,
    new: int,
    *,
    start: datetime,
    end: datetime,
    now: datetime | None,
    deadline: datetime | None = None,
    is_cancelled: bool = False,
) -> dict[str, Any]:
    """Return a rotation as percentages of a time line: when which version is accepted.

    Args:
        old, new: the versions.
        start: when the new one began, or would begin.
        end: until when both are accepted; `start` for an immediate rotation.
        now: the present; None draws no mark.
        deadline: a staged rotation's, while it runs: then the line reaches a little farther, and `end` may be beyond.
        is_cancelled: the new one ended at `end`, and the old one went on.
    """
    left, whole = _extent(start, end, deadline, now)

    def place(at: datetime) -> float:
        return min(max((at - left) / whole * 100, 0), 100)

    until = "all have moved" if deadline is not None and end >= left + whole else f"{end:%-d %b %H:%M} UTC"
    words = "refused at once" if end <= start else "accepted" if is_cancelled else f"accepted until {until}"
    old_words = "" if end <= start else words.removeprefix("accepted ")
    old_width, new_end = (100.0, place(end)) if is_cancelled else (place(end), 100.0)
    new_width = new_end - place(start)
    new_words = "cancelled" if is_cancelled else "accepted"
    return {
        "label": f"Version {old}: {words}. Version {new}: accepted from {start:%-d %b %H:%M} UTC.",
        "ticks": [
            {"at": place(left + whole * part / 4), "label": _tick(left + whole * part / 4, whole)}
            for part in range(4)
        ],
        "spans": [
            {"start": 0, "width": old_width, "kind": "old", "label": _span_label(old, old_words, old_width)},
            {
                "start": place(start),
                "width": new_width,
                "kind": "new",
                "label": _span_label(new, new_words, new_width),
            },
        ],
        "now": None if now is None else place(now),
        "deadline": None if deadline is None else place(deadline),
    }


def _extent(
    start: datetime, end: datetime, deadline: datetime | None, now: datetime | None
) -> tuple[datetime, timedelta]:
    """Return where a time line begins and how long it is: to the deadline, if there is one, else to the end."""
    shown = end if deadline is None else max(deadline, now or deadline)
    # What has ended within minutes is drawn in minutes, not at the edge of an hour yet to come.
    least = timedelta(minutes=5) if now is None and end > start else timedelta(hours=1)
    length = max(shown - start, least)
    before = length * (0.25 if end <= start else 0)
    return start - before, before + length * 1.25


def _span_label(version: int, words: str, width: float) -> str:
    """Return what fits on a span so many percent wide, on a phone too."""
    if width < ROOM_FOR_VERSION:
        return ""
    return f"v{version} · {words}" if words and width >= ROOM_FOR_WORDS else f"v{version}"


def _tick(at: datetime, whole: timedelta) -> str:
    return f"{at:%a %-d %b}" if whole > timedelta(days=4) else f"{at:%a %H:%M}"


def leaks(key: ApiKey) -> list[Leak]:
    """Return where secrets of a key were found, the latest first; at most five."""
    return list(Leak.objects.filter(key=key).order_by("-found_at", "-id")[:5])
