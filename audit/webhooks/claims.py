"""Handing deliveries out to be tried, and taking what came of it: guarded statements, so that nobody tries one twice.

A claim puts the next attempt as far off as its lease lasts. A worker that is killed meanwhile has recorded nothing:
when the lease is over the delivery is due again, with the same `webhook-id`.
"""

import logging
import random
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from audit import encryption, ledger, ports, tenancy
from audit.actors import WORKER, Actor
from audit.acts import Act
from audit.errors import DecryptionFailed, EntryInvalid
from audit.models import Attempt, Delivery, DeliveryState, Endpoint, EndpointSecret, Entry, Why
from audit.webhooks import body, schedule, signing
from audit.webhooks.sending import Answer, Outcome

LEASE: Final = timedelta(seconds=45)
PER_ENDPOINT: Final = 4
PER_FAILING_ENDPOINT: Final = 1
PER_ORGANIZATION: Final = 16
# Endpoints that have something waiting are found by one step along the index each; of each come a few, and of each
# organization, so that none fills every place however much it has waiting.
CLAIM = """
    WITH RECURSIVE waiting AS (
        (SELECT endpoint_id FROM audit_delivery WHERE state = 'pending' ORDER BY endpoint_id LIMIT 1)
        UNION ALL
        SELECT (SELECT d.endpoint_id FROM audit_delivery d WHERE d.state = 'pending' AND d.endpoint_id > w.endpoint_id
                ORDER BY d.endpoint_id LIMIT 1)
        FROM waiting w WHERE w.endpoint_id IS NOT NULL
    ), busy AS (
        SELECT * FROM unnest(%(endpoints)s::text[], %(running)s::integer[]) b (endpoint_id, running)
    ), crowded AS (
        SELECT * FROM unnest(%(organizations)s::text[], %(crowd)s::integer[]) c (organization_id, running)
    ), ready AS (
        SELECT e.organization_id, d.id, d.next_attempt_at,
            row_number() OVER (PARTITION BY e.id ORDER BY d.next_attempt_at, d.epoch, d.index) AS turn
        FROM waiting w
        JOIN audit_endpoint e ON e.id = w.endpoint_id
        LEFT JOIN busy b ON b.endpoint_id = e.id
        CROSS JOIN LATERAL (
            SELECT d.id, d.next_attempt_at, d.epoch, d.index FROM audit_delivery d
            WHERE d.endpoint_id = e.id AND d.state = 'pending' AND d.next_attempt_at <= now()
                AND (e.disabled_at IS NULL OR d.epoch IS NULL)
            ORDER BY d.next_attempt_at, d.epoch, d.index
            LIMIT greatest(0, CASE WHEN e.failing_since IS NULL THEN %(per_endpoint)s ELSE %(per_failing)s END
                - coalesce(b.running, 0))) d
    ), fair AS (
        SELECT r.id, r.turn, r.next_attempt_at, r.organization_id,
            row_number() OVER (PARTITION BY r.organization_id ORDER BY r.turn, r.next_attempt_at)
                + coalesce(c.running, 0) AS place
        FROM ready r LEFT JOIN crowded c ON c.organization_id = r.organization_id
    ), chosen AS (
        SELECT id FROM fair WHERE place <= %(per_organization)s ORDER BY place, next_attempt_at LIMIT %(free)s
    ), locked AS (
        SELECT d.id FROM audit_delivery d WHERE d.id IN (SELECT id FROM chosen)
            AND d.state = 'pending' AND d.next_attempt_at <= now() FOR UPDATE SKIP LOCKED
    )
    UPDATE audit_delivery d SET claim = %(claim)s, next_attempt_at = now() + %(lease)s
    FROM locked l WHERE d.id = l.id RETURNING d.id, d.organization_id, d.endpoint_id
"""
NEXT_DUE = """
    SELECT extract(epoch FROM min(d.next_attempt_at) - now())::float FROM audit_delivery d
    JOIN audit_endpoint e ON e.id = d.endpoint_id
    WHERE d.state = 'pending' AND d.next_attempt_at <= now() + make_interval(secs => %s)
        AND (e.disabled_at IS NULL OR d.epoch IS NULL)
"""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A delivery that is this worker's until its lease ends."""

    id: str
    claim: str
    organization_id: str
    endpoint_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What an attempt sends: the headers carry signatures, no secret."""

    at: datetime
    url: str
    headers: Mapping[str, str]
    body: bytes


def claim(free: int, endpoints: Mapping[str, int], organizations: Mapping[str, int]) -> list[Claimed]:
    """Claim at most `free` deliveries that are due; the mappings say how many of each run already, by id."""
    token = secrets.token_hex(16)
    parameters: dict[str, Any] = {
        "endpoints": list(endpoints),
        "running": list(endpoints.values()),
        "organizations": list(organizations),
        "crowd": list(organizations.values()),
        "per_endpoint": PER_ENDPOINT,
        "per_failing": PER_FAILING_ENDPOINT,
        "per_organization": PER_ORGANIZATION,
        "free": free,
        "claim": token,
        "lease": LEASE,
    }
    with tenancy.everywhere(tenancy.Reason.WORKER), connection.cursor() as cursor:
        cursor.execute(CLAIM, parameters)
        found = cursor.fetchall()
    return [
        Claimed(id=delivery, claim=token, organization_id=organization, endpoint_id=endpoint)
        for delivery, organization, endpoint in found
    ]


def next_due(within: timedelta) -> float | None:
    """Return in how many seconds the next delivery is due, None where that is later than `within`."""
    with tenancy.everywhere(tenancy.Reason.WORKER), connection.cursor() as cursor:
        cursor.execute(NEXT_DUE, [within.total_seconds()])
        row: tuple[float | None] = cursor.fetchone()
    return row[0]


def prepare(claimed: Claimed) -> Prepared | Answer | None:
    """Return what to send for a delivery, built from its entry anew; None where it is no longer this worker's to send.

    An `Answer` says why nothing could be built: it counts as a failed attempt.
    """
    with tenancy.within(claimed.organization_id):
        delivery = _held(claimed).select_related("endpoint").first()
        if delivery is None or (delivery.endpoint.is_disabled and delivery.place is not None):
            return None
        try:
            return _prepared(delivery, timezone.now())
        except DecryptionFailed:
            return _not_built("This server can't read the webhook's secret.")
        except EntryInvalid:
            return _not_built("The entry in the log can't be read.")
        except Exception:
            logger.exception("webhook delivery %s could not be built", claimed.id)
            return _not_built("The body could not be built: a fault of this server.")


def record(claimed: Claimed, at: datetime, answer: Answer) -> None:
    """Write an attempt's outcome: delivered, to be tried again, or failed; the last failure, and a 410, disables.

    Success counts even where the lease was over; a failure only while it was not.
    """
    with tenancy.within(claimed.organization_id):
        # The endpoint's row before the delivery's, as who disables it takes them.
        endpoint = Endpoint.objects.select_for_update(no_key=True).filter(pk=claimed.endpoint_id).first()
        delivery = Delivery.objects.select_for_update(no_key=True).filter(pk=claimed.id).first()
        if endpoint is None or delivery is None:
            return
        Attempt.objects.create(
            delivery=delivery,
            organization_id=claimed.organization_id,
            at=at,
            duration_ms=answer.duration_ms,
            outcome=answer.outcome,
            status=answer.status,
            detail=answer.detail,
            text=answer.text,
        )
        if answer.outcome is Outcome.DELIVERED:
            _succeed(endpoint, delivery)
        elif delivery.claim == claimed.claim and delivery.state == DeliveryState.PENDING:
            _fail(endpoint, delivery, answer)
        elif answer.outcome is Outcome.GONE:
            disable(endpoint, Why.GONE, actor=WORKER)


def disable(endpoint: Endpoint, why: Why, *, actor: Actor) -> bool:
    """Disable an endpoint that is not yet, and stop its deliveries; return whether it was this call that did.

    Writes `webhook.disabled`.
    """
    now = timezone.now()
    with ledger.recording(endpoint.organization_id, actor) as entry:
        stopped = Endpoint.objects.filter(pk=endpoint.pk, disabled_at=None).update(
            disabled_at=now, disabled_reason=why, updated_at=now
        )
        if not stopped:
            return False
        waiting = Delivery.objects.filter(endpoint=endpoint, state=DeliveryState.PENDING, epoch__isnull=False)
        count = waiting.update(state=DeliveryState.FAILED, next_attempt_at=None, finished_at=now)
        entry(
            Act.WEBHOOK_DISABLED,
            target=endpoint.id,
            data={"url": endpoint.host, "reason": str(why.value), "stopped_deliveries": count},
        )
    return True


def secrets_in_force(endpoint_id: str, now: datetime) -> list[str]:
    """Return the secrets that sign now, the newest first: secret. Raises `DecryptionFailed`."""
    in_force = Q(signs_until__isnull=True) | Q(signs_until__gt=now)
    rows = EndpointSecret.objects.filter(in_force, endpoint_id=endpoint_id).order_by("-version")
    return [encryption.decrypt(bytes(row.sealed)).decode() for row in rows]


def body_of(delivery: Delivery, facts: Mapping[str, Any]) -> bytes:
    """Return the body of a delivery; raises `EntryInvalid` where its entry can't be read."""
    if delivery.place is None:
        return body.of_test(delivery.endpoint_id, delivery.asked_by, delivery.created_at)
    epoch, index = delivery.place
    entry = Entry.objects.of(delivery.organization_id).filter(epoch=epoch, index=index).first()
    if entry is None:
        raise EntryInvalid("entry", "is not there")
    return body.of_entry(entry.parsed(), facts)


def facts_of(delivery: Delivery) -> Mapping[str, Any]:
    """Return what the port adds to a delivery's data now."""
    known = delivery.place is not None and delivery.act in Act
    added = ports.webhook_facts.get(Act(delivery.act)) if known else None
    if added is None:
        return {}
    epoch, index = delivery.place or (0, 0)
    entry = Entry.objects.of(delivery.organization_id).get(epoch=epoch, index=index)
    with transaction.atomic():
        return added(delivery.organization_id, entry.parsed().data)


def _prepared(delivery: Delivery, now: datetime) -> Prepared:
    content = body_of(delivery, facts_of(delivery))
    signing_secrets = secrets_in_force(delivery.endpoint_id, now)
    return Prepared(
        at=now,
        url=delivery.endpoint.url,
        headers=signing.headers(signing_secrets, delivery.id, now, content),
        body=content,
    )


def _held(claimed: Claimed) -> Any:
    return Delivery.objects.filter(pk=claimed.id, claim=claimed.claim, state=DeliveryState.PENDING)


def _succeed(endpoint: Endpoint, delivery: Delivery) -> None:
    now = timezone.now()
    Delivery.objects.filter(pk=delivery.pk).update(
        state=DeliveryState.DELIVERED,
        attempts=delivery.attempts + 1,
        next_attempt_at=None,
        finished_at=now,
        claim="",
    )
    if delivery.place is not None:
        Endpoint.objects.filter(pk=endpoint.pk).update(failing_since=None, last_delivered_at=now)


def _fail(endpoint: Endpoint, delivery: Delivery, answer: Answer) -> None:
    now = timezone.now()
    attempts = delivery.attempts + 1
    jitter = random.uniform(-1, 1)  # noqa: S311 - spreads the load
    again = schedule.next_attempt(attempts, now, jitter=jitter, retry_after=answer.retry_after)
    is_test, is_gone = delivery.place is None, answer.outcome is Outcome.GONE
    if is_test or is_gone:
        again = None
    Delivery.objects.filter(pk=delivery.pk).update(
        state=DeliveryState.FAILED if again is None else DeliveryState.PENDING,
        attempts=attempts,
        next_attempt_at=again,
        finished_at=now if again is None else None,
        claim="",
    )
    if not is_test:
        Endpoint.objects.filter(pk=endpoint.pk, failing_since=None).update(failing_since=now)
    if is_gone or (again is None and not is_test):
        disable(endpoint, Why.GONE if is_gone else Why.FAILING, actor=WORKER)


def _not_built(detail: str) -> Answer:
    return Answer(outcome=Outcome.NOT_BUILT, detail=detail)


def running(claimed: list[Claimed]) -> tuple[Counter[str], Counter[str]]:
    """Return how many run by endpoint, and by organization."""
    return Counter(each.endpoint_id for each in claimed), Counter(each.organization_id for each in claimed)
