"""Rotating the secret in a file on a schedule: when it is due, and the loop that waits for it."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

from keystead.client import Keystead
from keystead.errors import ApiError, Busy, KeysteadError, SuccessorLost
from keystead.journal import Journal
from keystead.models import Key, Me
from keystead.place import Place
from keystead.swap import Connect, Swap, Swapped, Wait, Way

log: Final = logging.getLogger("keystead.agent")
LOOK_SECONDS: Final = 3_600.0
FIRST_RETRY_SECONDS: Final = 15.0
BEFORE_EXPIRY_DAYS: Final = 7.0
_DAY: Final = timedelta(days=1)
_EXPIRED: Final = "expiry_before"


@dataclass(frozen=True)
class Schedule:
    """When a secret is to be replaced.

    Args:
        every_days: its age, instead of the key's own rotation interval.
        before_expiry_days: of its expiry, or a third of its life where that is less.
    """

    every_days: float | None = None
    before_expiry_days: float = BEFORE_EXPIRY_DAYS


@dataclass(frozen=True)
class Standing:
    """What a schedule goes by.

    Args:
        created_at: of the secret.
        interval_days: the key's own, None where it has none: then its expiry stays whatever is rotated.
        is_vain: a rotation has changed nothing about this expiry, as when a person must rotate by then.
    """

    key_id: str
    version: int
    created_at: datetime
    expires_at: datetime | None
    interval_days: int | None
    retiring: bool = False
    is_vain: bool = False

    def expires_within(self, days: float, now: datetime) -> bool:
        """Tell whether the secret expires within so many days."""
        return self.expires_at is not None and self.expires_at - now < timedelta(days=days)


@dataclass(frozen=True)
class Due:
    """When to rotate, None for never, and why."""

    at: datetime | None
    why: str


def due(standing: Standing, schedule: Schedule) -> Due:
    """Return when the secret is to be replaced: a day before its interval is over, or some before it expires.

    Each secret has a jitter of its own, always to the early side, so that many machines don't come at once and one that
    starts again finds the same time.
    """
    moments = [moment for moment in (_by_age(standing, schedule), _by_expiry(standing, schedule)) if moment]
    return (
        Due(*min(moments))
        if moments
        else Due(None, "it has no rotation interval, and a rotation renews nothing")
    )


def _by_age(standing: Standing, schedule: Schedule) -> tuple[datetime, str] | None:
    days = schedule.every_days or standing.interval_days
    if days is None:
        return None
    interval = timedelta(days=days)
    early = min(_DAY, interval / 10) * (1 + _jitter(standing))
    return standing.created_at + interval - early, f"every {days:g} days"


def _by_expiry(standing: Standing, schedule: Schedule) -> tuple[datetime, str] | None:
    if standing.expires_at is None or standing.interval_days is None or standing.is_vain:
        return None
    life = standing.expires_at - standing.created_at
    early = min(timedelta(days=schedule.before_expiry_days), life / 3)
    return standing.expires_at - early * (1 + _jitter(standing) / 10), "it expires"


def _jitter(standing: Standing) -> float:
    """Return 0 to 1, the same for a secret whenever it is asked for."""
    digest = hashlib.sha256(f"{standing.key_id}:{standing.version}".encode()).digest()
    return digest[0] / 255


def standing(client: Keystead, me: Me, journal: Journal, now: datetime) -> Standing:
    """Return what a schedule goes by: from `GET /v1/me`, else from the key, else from when this was first seen."""
    created_at, interval = me.secret_created_at, me.rotation_interval_days
    if created_at is None:
        key = _key(client, me.id)
        interval = key.rotation_interval_days if key else None
        created_at = _created_at(key, me.secret_version) or _first_seen(me, journal, now)
    is_vain = me.expires_at is not None and journal.get(_EXPIRED) == me.expires_at.isoformat()
    return Standing(me.id, me.secret_version, created_at, me.expires_at, interval, me.retiring, is_vain)


def _key(client: Keystead, key_id: str) -> Key | None:
    try:
        return client.keys.get(key_id)
    except ApiError:
        return None


def _created_at(key: Key | None, version: int) -> datetime | None:
    secrets = key.secrets if key else ()
    return next((secret.created_at for secret in secrets if secret.version == version), None)


def _first_seen(me: Me, journal: Journal, now: datetime) -> datetime:
    seen = journal.get("seen")
    if not isinstance(seen, dict) or (seen.get("key"), seen.get("version")) != (me.id, me.secret_version):
        seen = {"key": me.id, "version": me.secret_version, "at": now.isoformat()}
        journal.note(seen=seen)
    return datetime.fromisoformat(seen["at"])


class Agent:
    """Keeps the secret in one file fresh, until it is told to stop."""

    def __init__(
        self, find: Callable[[], Place], way: Way, schedule: Schedule, connect: Connect, wait: Wait
    ) -> None:
        """Prepare; nothing is asked or written.

        Args:
            find: finds the file anew each time: a link may lead elsewhere by then.
            connect, wait: as `Swap` takes them.
        """
        self._find = find
        self._way = way
        self._schedule = schedule
        self._connect = connect
        self._wait = wait

    def look(self) -> tuple[Standing, Due]:
        """Return how the secret in the file stands, and when it is due; changes nothing at the portal."""
        with self._find() as place, Journal(place) as journal:
            return self._look(journal, self._swap(place, journal))

    def once(self) -> Swapped | None:
        """Rotate if it is due, or finish what was begun; None where there was nothing to do. Raises as `Swap.run`."""
        with self._find() as place, Journal(place) as journal:
            swap = self._swap(place, journal)
            done = swap.resume()
            found, next_ = self._look(journal, swap)
            if found.retiring:
                raise SuccessorLost(found.key_id)
            if done is None and next_.at is not None and next_.at <= _now():
                log.info("rotating %s, version %d: %s", found.key_id, found.version, next_.why)
                done = swap.run()
                journal.note(**{_EXPIRED: found.expires_at and found.expires_at.isoformat()})
            self._warn(found, next_)
        if done is not None:
            log.info("%s has version %d in %s%s", done.key_id, done.version, place.path, _ended(done))
        return done

    def run(self) -> None:
        """Look every hour, and more often when it is due or failed, until `wait` says that the process is to end."""
        failures = 0
        while True:
            seconds = LOOK_SECONDS
            try:
                self.once()
                seconds = min(seconds, self._seconds_left())
                failures = 0
            except (KeysteadError, OSError) as error:
                failures += 1
                _tell(error)
                seconds = min(seconds, FIRST_RETRY_SECONDS * 2.0 ** min(failures - 1, 12))
            if self._wait(seconds * random.uniform(0.9, 1.0)):  # noqa: S311
                log.info("stopped")
                return

    def _look(self, journal: Journal, swap: Swap) -> tuple[Standing, Due]:
        me = swap.who()
        with self._connect(swap.secret()) as client:
            found = standing(client, me, journal, _now())
        return found, due(found, self._schedule)

    def _swap(self, place: Place, journal: Journal) -> Swap:
        return Swap(place, journal, self._way, self._connect, self._wait)

    def _seconds_left(self) -> float:
        _, next_ = self.look()
        return LOOK_SECONDS if next_.at is None else max(1.0, (next_.at - _now()).total_seconds())

    def _warn(self, found: Standing, next_: Due) -> None:
        """Tell of an end that no rotation puts off: without a person the key ends then."""
        now = _now()
        if not found.expires_within(self._schedule.before_expiry_days, now):
            return
        if next_.at is None or found.is_vain or found.interval_days is None:
            log.warning("%s expires at %s, and no rotation of ours renews it", found.key_id, found.expires_at)


def _tell(error: Exception) -> None:
    level = logging.CRITICAL if isinstance(error, SuccessorLost) else logging.ERROR
    if isinstance(error, Busy):
        level = logging.WARNING
    log.log(level, "%s", error)


def _ended(done: Swapped) -> str:
    return ", and the old secret is retired" if done.is_complete else ""


def _now() -> datetime:
    return datetime.now(timezone.utc)
