"""The calls of the last two weeks, so that charts have something to show: the same in every demo but for its days.

They are written as the verifier writes reported calls, one row for many, by its own login; the worker adds them up.
Nothing is told of a key before it was made, after it was last used, or from where it may not be used.
"""

import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connections

from keys import limits
from keys.verification import DATABASE
from portal.demo_data.keyspecs import Made
from portal.demo_data.northline.working import SHARED_TAG

DAYS: Final = timedelta(days=14)
STEP: Final = timedelta(hours=3)
# Of an organization with very many keys, a row a day for each will do.
MANY_KEYS, LONG_STEP = 200, timedelta(hours=24)
AGENT: Final = "collector/4.2"
HERE: Final = "us-east-1"
SHARED_BY: Final = (HERE, "us-west-2", "eu-west-2")
# A key is busier or quieter than another by so much; calls in a step of the day's middle.
QUIETEST, BUSIEST = 4, 900
REFUSED: Final = (("RATE_LIMITED", 0.04), ("INSUFFICIENT_SCOPE", 0.02))
_WRITE: Final = """
    INSERT INTO keys_call (at, organization_id, key_id, version, code, endpoint, region, ip, user_agent, cost, calls,
        verifier_id)
    SELECT n.*, %s FROM unnest(%s::timestamptz[], %s::text[], %s::text[], %s::int[], %s::text[], %s::text[], %s::text[],
        %s::inet[], %s::text[], %s::int[], %s::int[]) AS n
"""
_SPEND: Final = """
    INSERT INTO keys_organizationspend (organization_id, period, spent) VALUES (%s, %s, %s)
    ON CONFLICT (organization_id) DO UPDATE SET spent = keys_organizationspend.spent + excluded.spent
"""


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls of one key in three hours, as a row of the table."""

    at: datetime
    organization_id: str
    key_id: str
    version: int
    code: str
    endpoint: str
    region: str
    ip: str
    user_agent: str
    cost: int
    calls: int


def write(made: Sequence[Made], verifier_id: str, now: datetime) -> None:
    """Write the calls of keys that were in use lately; `verifier_id` is the organization that asked."""
    keys = Counter(each.key.organization_id for each in made)
    found = [
        calls
        for each in made
        for calls in _of(each, LONG_STEP if keys[each.key.organization_id] > MANY_KEYS else STEP, now)
    ]
    columns: list[list[Any]] = [[getattr(calls, name) for calls in found] for name in Calls.__slots__]
    with connections[DATABASE].cursor() as cursor:
        cursor.execute(_WRITE, [verifier_id, *columns])
        for organization_id, cost in _this_month(found, now).items():
            cursor.execute(_SPEND, [organization_id, limits.period(now), cost])


def _of(made: Made, step: timedelta, now: datetime) -> Iterator[Calls]:
    """Yield what one key was used for, from its making or two weeks ago to its last use."""
    if not made.uses:
        return
    last, version = max(made.uses, key=lambda use: use.at), min(use.version for use in made.uses)
    # Of its name, not of its id: a chart is the same in every demo.
    dice = random.Random(made.key.name)  # noqa: S311 - it draws examples, no secrets
    busy = math.exp(dice.uniform(math.log(QUIETEST), math.log(BUSIEST)))
    at = max(made.key.created_at, now - DAYS)
    endpoints = [_endpoint(scope) for scope in made.key.scopes[:3]]
    while at < last.at:
        for region in _regions(made):
            count = _count(busy * (step / STEP), at, dice)
            for code, calls in _outcomes(count, dice):
                yield Calls(
                    at=at + min(step, last.at - at) * dice.random(),
                    organization_id=made.key.organization_id,
                    key_id=made.key.id,
                    version=version,
                    code=code,
                    endpoint=dice.choice(endpoints),
                    region=region,
                    ip=last.ip,
                    user_agent=AGENT,
                    cost=calls if code == "VALID" else 0,
                    calls=calls,
                )
        at += step


def _count(busy: float, at: datetime, dice: random.Random) -> int:
    """Return the calls of three hours: more by day than by night, fewer on a weekend."""
    daily = 1 + 0.6 * math.sin((at.hour - 8) / 24 * 2 * math.pi)
    weekend = 0.45 if at.weekday() >= 5 else 1.0  # noqa: PLR2004 - Saturday
    return max(1, round(busy * daily * weekend * dice.uniform(0.75, 1.25)))


def _outcomes(count: int, dice: random.Random) -> Iterator[tuple[str, int]]:
    yield "VALID", count
    for code, chance in REFUSED:
        if dice.random() < chance:
            yield code, max(1, round(count * dice.uniform(0.01, 0.08)))


def _regions(made: Made) -> Sequence[str]:
    return SHARED_BY if SHARED_TAG in made.key.tags else (made.key.tags.get("region", HERE),)


def _endpoint(scope: str) -> str:
    """Return what a scope's calls ask for: `GET /v1/incidents` for `incidents:read`."""
    noun, _, verb = scope.partition(":")
    return f"{'GET' if verb in {'read', '*'} else 'POST'} /v1/{noun}"


def _this_month(found: Iterable[Calls], now: datetime) -> dict[str, int]:
    spent: dict[str, int] = {}
    for calls in found:
        if (calls.at.year, calls.at.month) == (now.year, now.month):
            spent[calls.organization_id] = spent.get(calls.organization_id, 0) + calls.cost
    return spent
