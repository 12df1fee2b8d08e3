"""How the notary stands, for the terminal: what is signed of every ledger, what waits, what is wrong."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone

from audit.notary.publishing import SILENT_AFTER
from audit.notary.reading import query

ROW = "SELECT instance, beat_at, swept_at, alarms::text FROM audit_notary"
LEDGERS = """
    SELECT h.origin, h.size, c.size, c.published_at FROM audit_head h LEFT JOIN LATERAL (
        SELECT * FROM audit_checkpoint c WHERE c.organization_id = h.organization_id AND c.epoch = h.epoch
        ORDER BY c.size DESC LIMIT 1) c ON true
    ORDER BY h.origin
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What `notary status` prints."""

    now: datetime
    beat_at: datetime | None
    swept_at: datetime | None
    alarms: list[dict[str, Any]]
    # (origin, entries, how many of them are signed, when that was published last)
    ledgers: list[tuple[str, int, int | None, datetime | None]]

    @property
    def is_missing(self) -> bool:
        """Whether no notary has shown a sign of life for 30 s."""
        return self.beat_at is None or self.now - self.beat_at > SILENT_AFTER

    @property
    def is_well(self) -> bool:
        """Whether one runs and finds everything right."""
        return not self.alarms and not self.is_missing

    @property
    def trouble(self) -> str:
        """One line of what is wrong."""
        told = [f"{len(self.alarms)} alarms stand"] if self.alarms else []
        return "; ".join([*told, "no notary runs"] if self.is_missing else told) + "."

    def lines(self) -> Iterator[str]:
        """Yield the lines for the terminal."""
        yield f"last sign of life {_time(self.beat_at)}  everything recomputed {_time(self.swept_at)}"
        for origin, size, signed, at in self.ledgers:
            yield f"{origin}  entries {size}  signed {signed or 0}  published {_time(at)}"
        for alarm in self.alarms:
            index = "" if alarm["index"] is None else f", entry {alarm['index']}"
            place = f"{alarm['organization']}  epoch {alarm['epoch']}{index}"
            yield f"ALARM  {place}: {alarm['kind']}: {alarm['what']}  since {alarm['since']}"


def read() -> Status:
    """Return how the notary stands. Raises `DatabaseError`."""
    _, beat_at, swept_at, alarms = (*query(ROW), (None, None, None, "[]"))[0]
    return Status(
        now=timezone.now(),
        beat_at=beat_at,
        swept_at=swept_at,
        alarms=json.loads(alarms),
        ledgers=[(origin, size, signed, at) for origin, size, signed, at in query(LEDGERS)],
    )


def _time(at: datetime | None) -> str:
    return at.isoformat(timespec="seconds") if at else "never"
