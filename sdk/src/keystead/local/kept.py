"""Verdicts that were given a moment ago: what may be kept, for how long, and when all of it goes. No I/O.

Secrets are kept as HMAC-SHA-256 under a key that this process draws and nobody else has.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from math import inf
from threading import Lock
from time import monotonic, time
from typing import TYPE_CHECKING, Final, NamedTuple

from keystead.local.uses import Use
from keystead.models import KeyInfo, Verdict
from keystead.question import MAX_SECRET, Question

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

# After so long without a sign of the portal nothing kept is believed; the portal gives three within that time.
SILENCE_SECONDS: Final = 1.0
MAX_NARROWED: Final = 10_000
_BLOCK: Final = 64

Place = tuple[bytes, tuple[object, ...]]


class Mark(NamedTuple):
    """A moment: how many changes were heard of by then, and its time by both clocks."""

    heard: int
    at: float
    wall: float


class Entry:
    """A kept verdict, until when it holds by both clocks, and its uses that are counted."""

    __slots__ = ("ends", "info", "ip", "since", "until", "uses", "verdict")

    def __init__(
        self, verdict: Verdict, info: KeyInfo, ip: str | None, *, until: float, since: float, ends: float
    ) -> None:
        """`until` by the monotonic clock, `since` and `ends` by the wall's."""
        self.verdict = verdict
        self.info = info
        self.ip = ip
        self.until = until
        self.since = since
        self.ends = ends
        self.uses: dict[tuple[object, ...], Use] = {}


class Kept:
    """The verdicts that are kept. Any number of threads may use it; finding takes no lock."""

    def __init__(self, max_staleness: float, max_entries: int) -> None:
        self._max_staleness = max_staleness
        self._max_entries = max_entries
        self._inner, self._outer = _padded_states()
        self._lock = Lock()
        self._entries: dict[Place, Entry] = {}
        self._places: dict[str, dict[Place, None]] = {}
        self._live_until = 0.0
        self._is_closed = False
        # Changes are numbered: a verdict that was asked for before one of its own is not kept after it.
        self._heard = 0
        self._narrowed: dict[str, int] = {}
        self._all_narrowed = 0
        # What to add to the monotonic clock for the portal's, at the latest that it may be.
        self._portals_clock = -inf

    def find(self, question: Question) -> Entry | None:
        """Return what is kept for a question and still holds."""
        # By position and in one piece: half of the time that a kept verdict takes is spent here, the rest on the HMAC.
        secret, now = question[0], monotonic()
        if now >= self._live_until or question[11] is not None or len(secret) > MAX_SECRET:
            return None
        first, second = self._inner(), self._outer()
        try:
            first.update(secret.encode())
        except UnicodeEncodeError:
            return None
        second.update(first.digest())
        entry = self._entries.get((second.digest(), question[1:6]))
        if entry is not None and now < entry.until and entry.since <= time() < entry.ends:
            return entry
        return None

    def mark(self) -> Mark | None:
        """Return this moment, to be taken before the portal is asked; None while nothing may be kept."""
        heard, now = self._heard, monotonic()
        return Mark(heard, now, time()) if now < self._live_until else None

    def learn(self, mark: Mark, question: Question, verdict: Verdict) -> None:
        """Keep a verdict that was asked for at `mark`, where it may be and nothing has changed since."""
        info = verdict.key
        if not verdict.valid or info is None or info.rate_limit or info.quota or question.trace is not None:
            return
        # An approval is for one moment.
        if info.approval is not None:
            return
        entry = self._entry(mark, question, verdict, info)
        place = (self._fingerprint(question.secret), question[1:6])
        with self._lock:
            if monotonic() < min(entry.until, self._live_until) and not self._has_changed(mark, info):
                self._put(place, entry)

    def begin(self, portals_time: float | None, asked_at: float) -> None:
        """Begin anew, with nothing: changes are heard of from now on.

        Args:
            portals_time: the latest that the portal's clock may have shown at `asked_at`, a monotonic time.
        """
        with self._lock:
            self._narrow_all()
            self._portals_clock = -inf if portals_time is None else portals_time - asked_at
            self._live_until = 0.0 if self._is_closed else monotonic() + SILENCE_SECONDS

    def alive(self) -> None:
        """Believe what is kept for another second; after a silence there is nothing to believe."""
        with self._lock:
            if monotonic() >= self._live_until:
                self._narrow_all()
            self._live_until = 0.0 if self._is_closed else monotonic() + SILENCE_SECONDS

    def narrow(self, id_: str) -> None:
        """Drop all verdicts on a key, or on the keys of an organization."""
        with self._lock:
            self._heard += 1
            self._narrowed[id_] = self._heard
            for place in list(self._places.get(id_, ())):
                self._drop(place)
            if len(self._narrowed) > MAX_NARROWED:
                self._narrowed.clear()
                self._all_narrowed = self._heard

    def narrow_all(self) -> None:
        """Drop everything; what was asked for by now is not kept either."""
        with self._lock:
            self._narrow_all()

    def lose(self) -> None:
        """Drop everything, and keep nothing until `begin`."""
        with self._lock:
            self._narrow_all()
            self._live_until = 0.0

    def close(self) -> None:
        """Drop everything, for good."""
        with self._lock:
            self._is_closed = True
            self._narrow_all()
            self._live_until = 0.0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def is_live(self) -> bool:
        """Whether verdicts may be kept now."""
        return monotonic() < self._live_until

    def _fingerprint(self, secret: str) -> bytes:
        first, second = self._inner(), self._outer()
        first.update(secret.encode())
        second.update(first.digest())
        return second.digest()

    def _entry(self, mark: Mark, question: Question, verdict: Verdict, info: KeyInfo) -> Entry:
        """Return the entry; the time runs from the question, and ends with the secret by the later of two clocks."""
        times = [time for time in (info.expires_at, info.accepted_until) if time is not None]
        ends = min((time.timestamp() for time in times), default=inf)
        left = ends - max(mark.wall, self._portals_clock + mark.at)
        return Entry(
            verdict,
            info,
            question.ip,
            until=mark.at + min(self._max_staleness, left),
            since=mark.wall,
            ends=min(mark.wall + self._max_staleness, ends),
        )

    def _has_changed(self, mark: Mark, info: KeyInfo) -> bool:
        narrowed = self._narrowed
        latest = max(self._all_narrowed, narrowed.get(info.id, 0), narrowed.get(info.organization.id, 0))
        return latest > mark.heard

    def _put(self, place: Place, entry: Entry) -> None:
        self._drop(place)
        while len(self._entries) >= self._max_entries:
            self._drop(next(iter(self._entries)))
        self._entries[place] = entry
        for id_ in (entry.info.id, entry.info.organization.id):
            self._places.setdefault(id_, {})[place] = None

    def _drop(self, place: Place) -> None:
        entry = self._entries.pop(place, None)
        if entry is None:
            return
        for id_ in (entry.info.id, entry.info.organization.id):
            places = self._places[id_]
            del places[place]
            if not places:
                del self._places[id_]

    def _narrow_all(self) -> None:
        self._heard += 1
        self._all_narrowed = self._heard
        self._narrowed.clear()
        self._entries.clear()
        self._places.clear()


def _padded_states() -> tuple[Callable[[], Hash], Callable[[], Hash]]:
    """Return what makes HMAC-SHA-256's two states under a fresh key: hashed once, copied each time (RFC 2104, 4)."""
    key = os.urandom(32).ljust(_BLOCK, b"\0")
    inner, outer = (hashlib.sha256(bytes(byte ^ pad for byte in key)) for pad in (0x36, 0x5C))
    return inner.copy, outer.copy
