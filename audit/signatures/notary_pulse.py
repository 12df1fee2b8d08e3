"""Whether the notary lives, when it last recomputed everything, and what it found wrong: for whoever may know."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from audit import tenancy

# It says every two seconds that it lives.
MISSING_AFTER: Final = timedelta(seconds=30)
# As `audit.notary` names what is wrong with the keys that sign, and not with a ledger.
KEY: Final = "key"
ALL: Final = "SELECT beat_at, swept_at, alarms FROM audit_notary"
OWN: Final = "SELECT beat_at, swept_at, alarms FROM audit_notary_of()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """What the notary found wrong with one ledger.

    `epoch` and `index` say where, None where no entry can be named; `kind` is a word for machines, `what` for people,
    without personal data. `since` is None where the notary did not say.
    """

    organization_id: str
    epoch: int
    index: int | None
    kind: str
    what: str
    since: datetime | None

    @property
    def place(self) -> tuple[int, int] | None:
        """Where it is: (epoch, index); None where no entry can be named."""
        return None if self.index is None else (self.epoch, self.index)

    @property
    def is_of_key(self) -> bool:
        """Whether every entry is as it was signed, and it is a key that is missing: the notary has not read it."""
        return self.kind == KEY


@dataclass(frozen=True, slots=True, kw_only=True)
class NotaryPulse:
    """How the notary stands. `beat_at` is its last sign of life, None where there was none.

    `swept_at` is when it had last recomputed every entry of every ledger.
    """

    now: datetime
    beat_at: datetime | None
    swept_at: datetime | None
    alarms: Sequence[Alarm]

    @property
    def faults(self) -> Sequence[Alarm]:
        """Those about ledgers that are not as they were signed."""
        return [alarm for alarm in self.alarms if not alarm.is_of_key]

    @property
    def key_alarms(self) -> Sequence[Alarm]:
        """Those about keys that a ledger announces and the notary does not sign with."""
        return [alarm for alarm in self.alarms if alarm.is_of_key]

    @property
    def is_missing(self) -> bool:
        """Whether no notary lives, as far as can be told: nothing new is signed, no tampering is found."""
        return self.beat_at is None or self.now - self.beat_at > MISSING_AFTER

    @property
    def beat_seconds(self) -> int | None:
        """How long ago its last sign of life was; None where there was none."""
        return _seconds(self.now, self.beat_at)

    @property
    def swept_seconds(self) -> int | None:
        """How long ago it had last recomputed everything; None where it never had."""
        return _seconds(self.now, self.swept_at)

    @property
    def status(self) -> str:
        """In one word: `alarm`, `missing` or `ok`."""
        return "alarm" if self.alarms else "missing" if self.is_missing else "ok"


def read() -> NotaryPulse:
    """Return how the notary stands, with the alarms of every organization: for the operator alone."""
    with tenancy.everywhere(tenancy.Reason.HEALTH):
        return _pulse(ALL)


def of_organization() -> NotaryPulse:
    """Return how the notary stands, with the alarms about the ledger of the organization that is worked in."""
    return _pulse(OWN)


def _pulse(sql: str) -> NotaryPulse:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        beat_at, swept_at, alarms = cursor.fetchone() or (None, None, "[]")
    return NotaryPulse(
        now=timezone.now(),
        beat_at=beat_at,
        swept_at=swept_at,
        alarms=[_alarm(alarm) for alarm in json.loads(alarms or "[]")],
    )


def _alarm(told: Mapping[str, Any]) -> Alarm:
    return Alarm(
        organization_id=str(told.get("organization") or ""),
        epoch=int(told.get("epoch") or 1),
        index=None if told.get("index") is None else int(told["index"]),
        kind=str(told.get("kind") or ""),
        what=str(told.get("what") or ""),
        since=parse_datetime(str(told.get("since") or "")),
    )


def _seconds(now: datetime, at: datetime | None) -> int | None:
    return None if at is None else max(0, int((now - at).total_seconds()))
