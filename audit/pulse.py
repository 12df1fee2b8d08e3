"""Whether a worker lives, and what waits for it: counts and ages alone, for `/readyz`, the operator and pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection
from django.utils import timezone

from audit import tenancy
from audit.models import Delivery, Mail

# A worker says every ten seconds that it lives.
MISSING_AFTER: Final = timedelta(seconds=30)
# More than so many are not counted.
MOST: Final = 10_000
# A worker that was stopped leaves no row behind, but what it did by the clock, every ten seconds.
SEEN = """
    SELECT (SELECT max(last_heartbeat) FROM procrastinate_workers),
        (SELECT to_timestamp(max(defer_timestamp)) FROM procrastinate_periodic_defers)
"""
QUEUE = """
    SELECT (SELECT count(*) FROM (SELECT FROM procrastinate_jobs
            WHERE status = 'todo' AND (scheduled_at IS NULL OR scheduled_at <= now()) LIMIT %(most)s) due),
        (SELECT min(coalesce(j.scheduled_at, e.at)) FROM (SELECT * FROM procrastinate_jobs
                WHERE status = 'todo' AND (scheduled_at IS NULL OR scheduled_at <= now()) ORDER BY id LIMIT 100) j
            LEFT JOIN procrastinate_events e ON e.job_id = j.id AND e.type = 'deferred'),
        (SELECT count(*) FROM (SELECT FROM procrastinate_jobs WHERE status = 'failed' LIMIT %(most)s) failed)
"""
FAILED = """
    SELECT j.task_name, count(*), max(e.at) FROM procrastinate_jobs j
    LEFT JOIN procrastinate_events e ON e.job_id = j.id AND e.type = 'failed'
    WHERE j.status = 'failed' GROUP BY 1 ORDER BY 3 DESC NULLS LAST LIMIT 20
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """How the worker and its queue stand. `seen_at` is the last sign of any worker's life, None where there was none.

    Counts end at 10,000. `due_since` is when the oldest job that is due was.
    """

    now: datetime
    heard_at: datetime | None
    seen_at: datetime | None
    jobs_due: int
    due_since: datetime | None
    jobs_failed: int

    @property
    def is_missing(self) -> bool:
        """Whether no worker lives, as far as can be told: nothing is delivered, nothing runs by the clock."""
        return self.heard_at is None or self.now - self.heard_at > MISSING_AFTER

    @property
    def seen_seconds(self) -> int | None:
        """How long ago the last sign of a worker's life was; None where there was none."""
        return None if self.seen_at is None else max(0, int((self.now - self.seen_at).total_seconds()))

    @property
    def oldest_seconds(self) -> int:
        """For how long the oldest job that is due has waited; 0 where none waits."""
        return 0 if self.due_since is None else max(0, int((self.now - self.due_since).total_seconds()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Undelivered:
    """What waits to leave this installation, in every organization; counts end at 10,000."""

    webhooks: int
    mails: int


@dataclass(frozen=True, slots=True)
class FailedTask:
    """Jobs of one kind that failed in the last three days, and when the last did."""

    name: str
    count: int
    at: datetime | None


def read() -> Pulse:
    """Return how the worker and its queue stand now."""
    [(heartbeat, by_clock)] = _rows(SEEN)
    [(due, due_since, failed)] = _rows(QUEUE, {"most": MOST})
    seen = [at for at in (heartbeat, by_clock) if at]
    return Pulse(
        now=timezone.now(),
        heard_at=heartbeat,
        seen_at=max(seen, default=None),
        jobs_due=due,
        due_since=due_since,
        jobs_failed=failed,
    )


def undelivered() -> Undelivered:
    """Return how much waits to be delivered, in every organization together."""
    with tenancy.everywhere(tenancy.Reason.HEALTH):
        return Undelivered(
            webhooks=Delivery.objects.filter(state="pending").order_by()[:MOST].count(),
            mails=Mail.objects.filter(state=Mail.State.WAITING).order_by()[:MOST].count(),
        )


def failed_tasks() -> list[FailedTask]:
    """Return which jobs failed, the latest first; only the operator may see it."""
    return [FailedTask(*row) for row in _rows(FAILED)]


def _rows(sql: str, parameters: Any = None) -> Sequence[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        found: Sequence[tuple[Any, ...]] = cursor.fetchall()
    return found
