"""Uses of kept verdicts, counted until they are reported: like ones together, so that memory stays small. No I/O."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from threading import Lock
from time import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from keystead.local.kept import Entry
    from keystead.question import Question

MAX_ITEMS: Final = 500
# Below what the portal takes as a body.
MAX_BYTES: Final = 200_000
# Of different uses that wait: above the first they lose their details, above the second they are lost, which is told.
MAX_DETAILED: Final = 10_000
MAX_WAITING: Final = 20_000
MAX_VARIANTS: Final = 64
# The portal's bounds of one item.
MAX_CALLS: Final = 1_000_000_000
MAX_COST: Final = 2_000_000_000
_MINUTE: Final = 60


class Like(NamedTuple):
    """What uses have in common that are reported together."""

    key: str
    version: int
    endpoint: str | None
    region: str | None
    ip: str | None
    user_agent: str | None

    def without_details(self) -> Like:
        """Return what is left where there are too many different ones."""
        return Like(self.key, self.version, None, None, None, None)


class Use:
    """Like uses since the last time they were taken: the first one's time, how many, what they cost."""

    __slots__ = ("at", "calls", "cost", "like")

    def __init__(self, like: Like) -> None:
        self.like = like
        self.at = 0.0
        self.calls = 0
        self.cost = 0


@dataclass(frozen=True)
class Batch:
    """Uses on their way to the portal; sent again under the same name they count once."""

    name: str
    calls: tuple[Mapping[str, Any], ...]
    made_at: float

    @property
    def body(self) -> dict[str, Any]:
        """Return what is sent."""
        return {"batch": self.name, "calls": list(self.calls)}


class Uses:
    """Counts uses from any thread; one thread takes them in batches."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counted: list[Use] = []
        # By what they have in common and the minute: their time, calls and cost.
        self._waiting: dict[tuple[Like, int], list[float]] = {}
        self.lost = 0

    def count(self, entry: Entry, question: Question) -> None:
        """Count one use."""
        use = entry.uses.get(question[6:9])
        if use is None:
            use = self._first(entry, question)
        with self._lock:
            if not use.calls:
                use.at = time()
                self._counted.append(use)
            use.calls += 1
            use.cost += question[9]

    def batch(self) -> Batch | None:
        """Take the next batch; None: nothing is left."""
        self._gather()
        calls: list[Mapping[str, Any]] = []
        size = 0
        for waiting in list(self._waiting):
            items = list(_items(waiting[0], *self._waiting[waiting]))
            size += sum(len(json.dumps(item)) for item in items)
            if calls and (size > MAX_BYTES or len(calls) + len(items) > MAX_ITEMS):
                break
            del self._waiting[waiting]
            calls += items
        return Batch(uuid.uuid4().hex, tuple(calls), time()) if calls else None

    def _first(self, entry: Entry, question: Question) -> Use:
        like = Like(
            entry.info.id,
            entry.info.secret_version,
            _fitting(question.endpoint, 256),
            _fitting(question.region, 64),
            entry.ip,
            _fitting(question.user_agent, 256),
        )
        use = Use(like)
        with self._lock:
            # What was counted already is held until it is taken.
            if len(entry.uses) >= MAX_VARIANTS:
                entry.uses.clear()
            return entry.uses.setdefault(question[6:9], use)

    def _gather(self) -> None:
        with self._lock:
            counted, self._counted = self._counted, []
            taken = [(use.like, use.at, use.calls, use.cost) for use in counted]
            for use in counted:
                use.calls = use.cost = 0
        for like, at, calls, cost in taken:
            self._wait(like, at, calls, cost)

    def _wait(self, like: Like, at: float, calls: int, cost: int) -> None:
        minute = int(at) // _MINUTE
        if (like, minute) not in self._waiting and len(self._waiting) >= MAX_DETAILED:
            like = like.without_details()
        found = self._waiting.get((like, minute))
        if found is not None:
            found[0] = min(found[0], at)
            found[1] += calls
            found[2] += cost
        elif len(self._waiting) < MAX_WAITING:
            self._waiting[like, minute] = [at, calls, cost]
        else:
            self.lost += calls


def _fitting(text: str | None, limit: int) -> str | None:
    """Return text as the portal takes it, cut to `limit` bytes: what it refused would take a whole batch with it."""
    return text and text.replace("\0", "").encode(errors="ignore")[:limit].decode(errors="ignore")


def _items(like: Like, at: float, calls: float, cost: float) -> Iterator[dict[str, Any]]:
    """Yield the item, in parts where its numbers are larger than the portal takes."""
    left, owed = int(calls), int(cost)
    parts = max(-(-left // MAX_CALLS), -(-owed // MAX_COST))
    said = {
        "endpoint": like.endpoint,
        "region": like.region,
        "ip": like.ip,
        "user_agent": like.user_agent,
    }
    common = {
        "key": like.key,
        "secret_version": like.version,
        "at": datetime.fromtimestamp(at, timezone.utc).isoformat().replace("+00:00", "Z"),
        **{name: value for name, value in said.items() if value is not None},
    }
    for part in range(parts, 0, -1):
        some, price = left // part, owed // part
        yield {**common, "calls": some, "cost": price}
        left, owed = left - some, owed - price
