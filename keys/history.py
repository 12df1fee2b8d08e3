"""What happened to a key's secrets: its versions with their last use, its rotations, and who is behind an id."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from keys import rotation
from keys.models import ApiKey, KeySecret, KeyUse, Leak, Rotation, SecretUse
from keys.rotation import State
from orgs.models import User

BUSY_FOR = timedelta(hours=1)
WORKING = frozenset({"newest", "accepted"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a key's secret, as pages show it. `state`: newest, accepted, retired or expired."""

    secret: KeySecret
    last_used_at: datetime | None
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One rotation: what it was, who began it, and what it has come to."""

    rotation: Rotation
    by: str
    state: State


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
    found = list(Rotation.objects.filter(key=key).select_related("key"))
    names = names_of({turn.started_by for turn in found})
    return [
        Turn(rotation=turn, by=names.get(turn.started_by, turn.started_by), state=turn.state(now))
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
    """Return the names of people and keys by their ids; of whom the reader can't see, nothing."""
    people = {user.id: str(user) for user in User.objects.filter(pk__in=ids)}
    keys = dict(ApiKey.objects.filter(pk__in=ids).values_list("id", "name"))
    return {**keys, **people}


def timeline_of(turn: Rotation, now: datetime) -> dict[str, Any]:
    """Return the time line of a rotation that there is."""
    return timeline(
        turn.old_version, turn.new_version, start=turn.started_at, end=turn.grace_ends_at, now=now
    )


def timeline(old: int, new: int, *, start: datetime, end: datetime, now: datetime | None) -> dict[str, Any]:
    """Return a rotation with a grace as percentages of a time line: when which version is accepted.

    Args:
        old, new: the versions.
        start: when the new one began, or would begin.
        end: until when the old one is accepted; `start` for an immediate rotation.
        now: the present; None draws no mark.
    """
    is_cut = end <= start
    length = max(end - start, timedelta(hours=1))
    before, after = length * (0.25 if is_cut else 0), length * 0.25
    left, whole = start - before, before + length + after

    def place(at: datetime) -> float:
        return (at - left) / whole * 100

    until = f"{end:%-d %b %H:%M} UTC"
    words = "refused at once" if is_cut else f"accepted until {until}"
    return {
        "label": f"Version {old}: {words}. Version {new}: accepted from {start:%-d %b %H:%M} UTC.",
        "ticks": [
            {"at": place(left + whole * part / 4), "label": _tick(left + whole * part / 4, whole)}
            for part in range(4)
        ],
        "spans": [
            {
                "start": 0,
                "width": place(end),
                "kind": "old",
                "label": f"v{old}" if is_cut else f"v{old} · until {until}",
            },
            {
                "start": place(start),
                "width": 100 - place(start),
                "kind": "new",
                "label": f"v{new} · accepted",
            },
        ],
        "now": None if now is None else min(max(place(now), 0), 100),
    }


def _tick(at: datetime, whole: timedelta) -> str:
    return f"{at:%a %-d %b}" if whole > timedelta(days=4) else f"{at:%a %H:%M}"


def leaks(key: ApiKey) -> list[Leak]:
    """Return where secrets of a key were found, the latest first; at most five."""
    return list(Leak.objects.filter(key=key).order_by("-found_at", "-id")[:5])
