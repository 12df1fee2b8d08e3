"""What the ledger says of a key's end by itself: that it comes, at the organization's thresholds, and that it came."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import connection

from audit import ledger, tenancy
from audit.actors import WORKER
from audit.acts import Act
from keys import clock, due, looking
from keys.due import AT_THE_END, Look
from keys.models import ApiKey, KeyPolicy, KeySecret, Notice, Recipient
from keys.models.notice import What
from keys.services.common import facts, policy_of
from keys.services.recipients import newest_recipient


def tell_of_expiry(organization_id: str, key_ids: Sequence[str]) -> int:
    """Say of keys of one organization what is to be said of their end, and note when to look at each again.

    Writes `key.expiring` and `key.expired`, each with the row that keeps it from being said twice, in one transaction
    of its own. A key that somebody else holds is left for the next time; so two workers at once say nothing twice.

    Args:
        organization_id: whose keys.
        key_ids: at most some hundreds, with a row in `keys_due`.

    Returns:
        How many keys were looked at.
    """
    with tenancy.within(organization_id), ledger.recording(organization_id, WORKER) as entry:
        now = clock.now()
        held = ApiKey.objects.of(organization_id).filter(pk__in=list(key_ids))
        keys = list(held.select_for_update(skip_locked=True, of=("self",)).order_by("id"))
        policy, recipient = policy_of(organization_id), newest_recipient(organization_id)
        looks = _looks(keys, policy, now)
        told = _keep(keys, looks, now)
        for key in keys:
            if key.id in told:
                act = _act(looks[key.id].tell or AT_THE_END)
                entry(act, target=key.id, data=_told(key, looks[key.id], policy, recipient, now))
        looking.postpone(What.EXPIRY, {key.id: looks[key.id].next_at for key in keys})
    return len(keys)


def carry_notices_over(key: ApiKey, expires_at: datetime | None, now: datetime) -> None:
    """Keep what was told of a secret's end from being told again where its new end lies within the same threshold.

    Where the end moves out of a threshold, its notice is due anew when the time comes: it is another end. So only what
    was told of the present end (`key.expires_at`) counts, whichever secret had it: a rotation may leave it as it is.
    """
    if expires_at is None:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO keys_notice (key_id, version, act, days, about, organization_id, at, is_told)"
            " SELECT DISTINCT key_id, %(version)s, act, days, %(end)s::timestamptz, organization_id,"
            " %(now)s::timestamptz, false"
            " FROM keys_notice WHERE key_id = %(key)s AND about = %(before)s AND act = %(act)s"
            " AND %(end)s::timestamptz - make_interval(days => days) <= %(now)s ON CONFLICT DO NOTHING",
            {
                "before": key.expires_at,
                "end": expires_at,
                "now": now,
                "key": key.id,
                "version": key.newest_version,
                "act": Act.KEY_EXPIRING,
            },
        )


def _looks(keys: Sequence[ApiKey], policy: KeyPolicy, now: datetime) -> Mapping[str, Look]:
    settled = _settled(keys)
    return {
        key.id: due.look(
            expires_at=key.expires_at,
            thresholds=policy.notice_days,
            settled=settled[key.id],
            is_stopped=key.is_disabled,
            now=now,
        )
        if key.expires_at is not None and key.revoked_at is None
        else Look(tell=None, pass_over=(), next_at=None)
        for key in keys
    }


def _settled(keys: Sequence[ApiKey]) -> Mapping[str, Collection[int]]:
    """Return the thresholds that are done with for each key's present end, whichever of its secrets had it."""
    present = {key.id: key.expires_at for key in keys}
    settled: dict[str, set[int]] = defaultdict(set)
    acts = (Act.KEY_EXPIRING, Act.KEY_EXPIRED)
    for notice in Notice.objects.filter(key_id__in=list(present), act__in=acts):
        if present[notice.key_id] == notice.about:
            settled[notice.key_id].add(notice.days)
    return settled


def _keep(keys: Sequence[ApiKey], looks: Mapping[str, Look], now: datetime) -> Collection[str]:
    """Insert what is settled now; return the keys of which this very transaction is the first to tell."""
    rows = [
        (key.id, key.newest_version, _act(days), days, key.expires_at, key.organization_id, days == tell)
        for key in keys
        for tell, passed in [(looks[key.id].tell, looks[key.id].pass_over)]
        for days in (*passed, *(() if tell is None else (tell,)))
    ]
    if not rows:
        return ()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO keys_notice (key_id, version, act, days, about, organization_id, is_told, at)"
            " SELECT n.*, %s FROM unnest(%s::text[], %s::int[], %s::text[], %s::int[], %s::timestamptz[], %s::text[],"
            " %s::bool[]) AS n ON CONFLICT DO NOTHING RETURNING key_id, is_told",
            [now, *map(list, zip(*rows, strict=True))],
        )
        return {key_id for key_id, is_told in cursor.fetchall() if is_told}


def _act(days: int) -> Act:
    return Act.KEY_EXPIRED if days == AT_THE_END else Act.KEY_EXPIRING


def _told(
    key: ApiKey, look: Look, policy: KeyPolicy, recipient: Recipient | None, now: datetime
) -> dict[str, Any]:
    """Return the facts of an entry: whose key, when, and what comes by itself; nothing personal."""
    whose = {"expires_at": key.expires_at, "owner": key.owner_user_id, "auto_rotate": key.auto_rotate}
    if key.expires_at is None or look.tell == AT_THE_END:
        return facts(key, version=key.newest_version, **whose)
    return facts(
        key,
        version=key.newest_version,
        **whose,
        days_left=due.days_left(key.expires_at, now),
        rotates_at=_rotates_at(key, policy) if recipient else None,
        recipient=recipient.id if recipient and key.auto_rotate else None,
    )


def _rotates_at(key: ApiKey, policy: KeyPolicy) -> datetime | None:
    """Return when the key rotates by itself; None where it does not."""
    if not key.auto_rotate or key.rotation_interval_days is None or key.is_disabled:
        return None
    newest = KeySecret.objects.only("created_at").get(key=key, version=key.newest_version)
    return due.next_turn(
        made_at=newest.created_at,
        expires_at=key.expires_at,
        interval_days=key.rotation_interval_days,
        grace_seconds=policy.auto_grace_seconds,
    ).at
