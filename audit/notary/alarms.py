"""What is wrong, for as long as it is: told in the log when it begins and when it ends, published with the pulse."""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

import structlog

from audit.errors import LedgerFaulty

logger = structlog.get_logger("keystead.notary")


class Kind(StrEnum):
    """What an alarm is about, beside the faults that verification names."""

    ROLLED_BACK = "rolled_back"
    REWRITTEN = "rewritten"
    REOPENED = "reopened"
    CHECKPOINT = "checkpoint"
    KEY = "key"
    UNREADABLE = "unreadable"


class Watch(StrEnum):
    """Who found it, and so who finds that it is over: the most telling first."""

    VERIFIED = "verified"
    ROUND = "round"
    HASHED = "hashed"
    PUBLISHED = "published"
    NOTES = "notes"
    KEYS = "keys"
    EARLIER = "earlier"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A ledger that is not as it was signed. `index` is None where no entry can be named."""

    organization_id: str
    epoch: int
    index: int | None
    kind: str
    what: str

    @classmethod
    def of(cls, organization_id: str, fault: LedgerFaulty) -> Self:
        """Return the alarm about what verification found."""
        return cls(
            organization_id=organization_id,
            epoch=fault.epoch,
            index=fault.index,
            kind=fault.fault.value,
            what=fault.what,
        )


class Alarms:
    """The alarms that stand, at most one for each organization and watch; threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[tuple[str, Watch], tuple[Alarm, datetime]] = {}

    def begin(self, watch: Watch, alarm: Alarm, now: datetime) -> bool:
        """Let an alarm stand; one about the same ledger by the same watch is replaced and keeps its beginning.

        Return whether it is news.
        """
        key = (alarm.organization_id, watch)
        with self._lock:
            found = self._found.get(key)
            since = found[1] if found else self._since(alarm.organization_id, now)
            self._found[key] = (alarm, since)
        is_new = found is None or found[0] != alarm
        if is_new:
            _log("alarm", alarm, watch)
        return is_new

    def end(self, watch: Watch, organization_id: str) -> None:
        """Take back what a watch found about a ledger, because it looked again and all was right."""
        with self._lock:
            found = self._found.pop((organization_id, watch), None)
        if found:
            _log("alarm over", found[0], watch)

    def end_others(self, watch: Watch, organizations: Iterable[str]) -> None:
        """Take back what a watch found about every ledger but these."""
        kept = set(organizations)
        with self._lock:
            over = [who for who, by in self._found if by == watch and who not in kept]
        for organization_id in over:
            self.end(watch, organization_id)

    def stops(self, organization_id: str, epoch: int) -> bool:
        """Whether something is wrong with a ledger that keeps more of this epoch from being signed.

        What a round itself finds it obeys anyway. A fault in an earlier epoch is told and stops nothing: the newer one
        was opened to go on without it. Nor does a key too many.
        """
        with self._lock:
            found = [
                self._found.get((organization_id, by)) for by in Watch if by not in {Watch.ROUND, Watch.KEYS}
            ]
        return any(alarm.epoch >= epoch for alarm, _ in filter(None, found))

    def published(self) -> list[dict[str, Any]]:
        """Return one alarm for each ledger, as `audit_notary.alarms` holds it: the most telling one."""
        with self._lock:
            chosen: dict[str, tuple[Alarm, datetime]] = {}
            for watch in Watch:
                for (organization_id, by), found in self._found.items():
                    if by == watch:
                        chosen.setdefault(organization_id, found)
        return [_body(alarm, since) for _, (alarm, since) in sorted(chosen.items())]

    def recall(self, published: Iterable[Mapping[str, Any]]) -> None:
        """Take over what stood when the last notary ended, until everything was looked at again."""
        for told in published:
            alarm = Alarm(
                organization_id=told["organization"],
                epoch=told["epoch"],
                index=told["index"],
                kind=told["kind"],
                what=told["what"],
            )
            self._found[alarm.organization_id, Watch.EARLIER] = (alarm, datetime.fromisoformat(told["since"]))

    def _since(self, organization_id: str, now: datetime) -> datetime:
        return min(
            (since for (who, _), (_, since) in self._found.items() if who == organization_id), default=now
        )


def _body(alarm: Alarm, since: datetime) -> dict[str, Any]:
    return {
        "organization": alarm.organization_id,
        "epoch": alarm.epoch,
        "index": alarm.index,
        "kind": alarm.kind,
        "what": alarm.what,
        "since": since.isoformat(timespec="milliseconds"),
    }


def _log(event: str, alarm: Alarm, watch: Watch) -> None:
    say = logger.error if event == "alarm" else logger.warning
    say(
        event,
        organization=alarm.organization_id,
        epoch=alarm.epoch,
        index=alarm.index,
        kind=alarm.kind,
        what=alarm.what,
        found_by=watch.value,
    )
