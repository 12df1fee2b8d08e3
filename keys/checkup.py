"""Looking at an organization's keys: what no index answers is found ahead, and kept for filters and the hygiene page.

Everything here may run at any moment, twice at once, and be cut off: what is found follows from the keys alone, and is
written as the difference to what was found before.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import batched
from typing import Final

from django.db.models import Count

from audit import tenancy
from keys import clock, health, usage
from keys.models import ApiKey, Finding, Grain, HealthRun, KeyFinding, KeyNetwork, OwnerType
from keys.services.common import terms_of
from keys.usage.questions import floor
from keys.usage.rows import rows
from orgs.models import Membership
from orgs.terms import RateLimit

AT_ONCE: Final = 500
MONTH: Final = timedelta(days=30)
A_DAY: Final = timedelta(days=1)
# A change that was not committed yet when the last look began.
OVERLAP: Final = timedelta(minutes=5)
_USED: Final = """
SELECT DISTINCT key_id FROM keys_usagekey WHERE organization_id = %(organization)s AND grain = 'h' AND at >= %(since)s
"""


def look(organization_id: str) -> int:
    """Look at an organization's keys: once a day at all, else at those that changed or were used since the last time.

    In transactions of their own, 500 keys each. Returns how many keys were looked at.
    """
    with tenancy.within(organization_id):
        now = clock.now()
        run = HealthRun.objects.filter(pk=organization_id).first()
    is_whole = run is None or run.looked_at_all_at < now - A_DAY
    ids = _all(organization_id) if run is None or is_whole else _recent(organization_id, run.looked_at)
    number = 0
    for chunk in batched(ids, AT_ONCE, strict=False):
        with tenancy.within(organization_id):
            _look_at(organization_id, chunk, now)
        number += len(chunk)
    with tenancy.within(organization_id):
        whole_at = now if run is None or is_whole else run.looked_at_all_at
        HealthRun.objects.update_or_create(
            pk=organization_id, defaults={"looked_at": now, "looked_at_all_at": whole_at}
        )
    return number


def looked_at(organization_id: str) -> datetime | None:
    """Return when the keys were last looked at; None where they never were."""
    run = HealthRun.objects.filter(pk=organization_id).first()
    return run.looked_at if run else None


def _all(organization_id: str) -> Iterator[str]:
    """Yield every key's id, ended ones too: what was found of these goes."""
    last = ""
    while True:
        with tenancy.within(organization_id):
            keys = ApiKey.objects.of(organization_id).filter(pk__gt=last).order_by("pk")
            ids = list(keys.values_list("pk", flat=True)[:AT_ONCE])
        if not ids:
            return
        yield from ids
        last = ids[-1]


def _recent(organization_id: str, since: datetime) -> Iterable[str]:
    with tenancy.within(organization_id):
        changed = ApiKey.objects.of(organization_id).filter(updated_at__gte=since - OVERLAP)
        hours = {"organization": organization_id, "since": floor(since - OVERLAP, Grain.HOUR)}
        used = {key_id for (key_id,) in rows(_USED, hours)}
        return sorted(used | set(changed.values_list("pk", flat=True)))


def _look_at(organization_id: str, key_ids: Collection[str], now: datetime) -> None:
    running = ApiKey.objects.of(organization_id).not_ended(now).filter(pk__in=key_ids)
    keys = list(running.select_related("use"))
    facts = _Facts(organization_id, [key.id for key in keys], now)
    wanted = {(finding, key.id) for key in keys for finding in facts.of(key)}
    had = KeyFinding.objects.filter(organization_id=organization_id, key_id__in=key_ids)
    before = {(Finding(finding), key_id) for finding, key_id in had.values_list("finding", "key_id")}
    KeyFinding.objects.bulk_create(
        [
            KeyFinding(organization_id=organization_id, finding=finding, key_id=key_id)
            for finding, key_id in sorted(wanted - before)
        ],
        ignore_conflicts=True,
    )
    for finding in Finding:
        gone = [key_id for found, key_id in before - wanted if found is finding]
        if gone:
            had.filter(finding=finding, key_id__in=gone).delete()


class _Facts:
    """What is known of some keys, read in a few statements."""

    def __init__(self, organization_id: str, key_ids: Collection[str], now: datetime) -> None:
        self._now = now
        self._counts = usage.health(organization_id, key_ids, now)
        self._networks = _networks(key_ids, now)
        self._members = set(
            Membership.objects.filter(organization_id=organization_id).values_list("user_id", flat=True)
        )
        self._plan: RateLimit | None = terms_of(organization_id).rate_limit

    def of(self, key: ApiKey) -> frozenset[Finding]:
        badges = health.badges(
            created_at=key.created_at,
            expires_at=key.expires_at,
            last_used_at=key.use.last_used_at,
            now=self._now,
            counts=self._counts[key.id],
        )
        own = key.own_rate_limit
        return health.findings(
            badges,
            networks=self._networks.get(key.id, 0),
            has_owner=self._has_owner(key),
            is_within_plan=own is None or own.is_within(self._plan),
        )

    def _has_owner(self, key: ApiKey) -> bool:
        return (
            key.owner_user_id in self._members if key.owner_type == OwnerType.MEMBER else bool(key.owner_team)
        )


def _networks(key_ids: Collection[str], now: datetime) -> Mapping[str, int]:
    recent = KeyNetwork.objects.filter(key_id__in=key_ids, last_seen_on__gte=(now - MONTH).date())
    return dict(recent.values("key_id").annotate(number=Count("network")).values_list("key_id", "number"))
