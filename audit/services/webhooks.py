"""Webhooks: create, change, rotate the secret, disable, enable, remove, resend, test (spec EVENTS, Webhooks).

Entries name an endpoint's URL without its path, which may be as good as a password, and never a secret.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection
from django.utils import timezone

from audit import encryption, ids, ledger, redaction
from audit.actors import Actor
from audit.acts import Act
from audit.errors import WebhookCapReached, WebhookInvalid, WebhookMade, WebhookStateForbids
from audit.models import Delivery, DeliveryState, Endpoint, EndpointSecret, Entry, Why
from audit.tasks.webhooks import enqueue
from audit.webhooks import body, claims, expansion, guard, patterns, signing
from audit.webhooks.address import Destination

MOST_ENDPOINTS: Final = 20
MOST_RESENT: Final = 10_000
MOST_DESCRIPTION: Final = 200
# The secret that a rotation retires signs for a day, so that rotating often does not break receivers: at most so many.
MOST_SECRETS: Final = 5
ACTS_NAMED: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """An endpoint and its newest secret, which is shown this once: secret."""

    endpoint: Endpoint
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What is to be different; None stays."""

    url: str | None = None
    acts: Sequence[str] | None = None
    description: str | None = None


def create_endpoint(
    organization_id: str,
    url: str,
    acts: Sequence[str],
    *,
    actor: Actor,
    description: str = "",
    form: str = "",
) -> Made:
    """Make an endpoint that hears of what is appended from now on, and its secret.

    `acts` are patterns (`key.revoked`, `key.*`, `*`). `form` is a page's random token: sent twice, it makes one. Writes
    the endpoint, its secret encrypted, and `webhook.created`. Raises `WebhookInvalid`, `WebhookAddressRefused`,
    `WebhookCapReached`, and `WebhookMade` for a form that was obeyed before.
    """
    destination = _destination(url, organization_id)
    chosen, words = patterns.normal(acts), _description(description)
    secret, now = signing.new_secret(), timezone.now()
    with ledger.recording(organization_id, actor) as entry:
        _lock_count(organization_id)
        own = Endpoint.objects.filter(organization_id=organization_id)
        endpoint_id = _id_of(form, actor) if form else ids.new("whk")
        if own.filter(pk=endpoint_id).exists():
            raise WebhookMade(endpoint_id)
        if own.count() >= MOST_ENDPOINTS:
            raise WebhookCapReached(f"An organization has at most {MOST_ENDPOINTS} webhooks.")
        epoch, index = expansion.end_of_log(organization_id)
        made = Endpoint.objects.create(
            id=endpoint_id,
            organization_id=organization_id,
            url=destination.url,
            description=words,
            acts=chosen,
            cursor_epoch=epoch,
            cursor_index=index,
            created_at=now,
            created_by=actor.id,
            updated_at=now,
        )
        _keep(made, 1, secret, now)
        entry(Act.WEBHOOK_CREATED, target=made.id, data={"url": made.host, "acts": _named(chosen)})
    return Made(endpoint=made, secret=secret)


def change_endpoint(endpoint: Endpoint, changes: Changes, *, actor: Actor) -> Endpoint:
    """Change the URL, what is subscribed to, or the description; return it as it is then.

    What waits already goes to the new URL. Writes `webhook.changed`, or nothing where nothing is different. Raises
    `WebhookInvalid`, `WebhookAddressRefused`, `WebhookStateForbids` where it was removed.
    """
    url = None if changes.url is None else _destination(changes.url, endpoint.organization_id).url
    acts = None if changes.acts is None else patterns.normal(changes.acts)
    words = None if changes.description is None else _description(changes.description)
    with ledger.recording(endpoint.organization_id, actor) as entry:
        found = _locked(endpoint)
        before = _shown(found)
        new = {"url": url, "acts": acts, "description": words}
        different = {name: value for name, value in new.items() if value not in (None, getattr(found, name))}
        if not different:
            return found
        for name, value in different.items():
            setattr(found, name, value)
        found.updated_at = timezone.now()
        found.save(update_fields=[*different, "updated_at"])
        entry(
            Act.WEBHOOK_CHANGED,
            target=found.id,
            data={
                "changed": sorted(different),
                "before": {name: before[name] for name in different if name in before},
                "after": {name: _shown(found)[name] for name in different if name in before},
            },
        )
    return found


def rotate_endpoint_secret(endpoint: Endpoint, *, actor: Actor, version: int | None = None) -> Made:
    """Give an endpoint a new secret; the one before signs beside it for 24 hours.

    Rotated again within them, each retired secret keeps its own day: a receiver that is slow misses nothing. Writes
    the secret encrypted and `webhook.secret_rotated`. Raises `WebhookStateForbids` where five sign already, or where
    `version` is given and is not the newest any more.
    """
    secret, now = signing.new_secret(), timezone.now()
    with ledger.recording(endpoint.organization_id, actor) as entry:
        found = _locked(endpoint)
        EndpointSecret.objects.filter(endpoint=found, signs_until__lte=now).delete()
        living = EndpointSecret.objects.filter(endpoint=found)
        if living.count() >= MOST_SECRETS:
            raise WebhookStateForbids(
                f"{MOST_SECRETS} secrets sign already: wait until the oldest has had its 24 hours."
            )
        newest = living.get(signs_until=None)
        if version not in (None, newest.version):
            raise WebhookStateForbids(
                "The secret was rotated meanwhile: its new one was in the first answer alone."
            )
        until = now + signing.OVERLAP
        living.filter(version=newest.version).update(signs_until=until)
        _keep(found, newest.version + 1, secret, now)
        entry(
            Act.WEBHOOK_SECRET_ROTATED,
            target=found.id,
            data={"url": found.host, "new_version": newest.version + 1, "old_signs_until": until},
        )
    return Made(endpoint=found, secret=secret)


def disable_endpoint(endpoint: Endpoint, *, actor: Actor) -> Endpoint:
    """Send nothing more to an endpoint; what waits is given up and can be resent.

    Writes `webhook.disabled`. Raises `WebhookStateForbids` where it is disabled.
    """
    with ledger.recording(endpoint.organization_id, actor):
        _locked(endpoint)
        if not claims.disable(endpoint, Why.PERSON, actor=actor):
            raise WebhookStateForbids("This webhook is disabled already.")
        return _locked(endpoint)


def enable_endpoint(endpoint: Endpoint, *, actor: Actor) -> Endpoint:
    """Send again to an endpoint that was disabled: what is appended from now on; what it missed can be resent.

    Writes `webhook.changed`. Raises `WebhookStateForbids` where it is not disabled.
    """
    now = timezone.now()
    with ledger.recording(endpoint.organization_id, actor) as entry:
        found = _locked(endpoint)
        if not found.is_disabled:
            raise WebhookStateForbids("This webhook is not disabled.")
        found.cursor_epoch, found.cursor_index = expansion.end_of_log(found.organization_id)
        found.disabled_at, found.disabled_reason, found.failing_since = None, Why.NOT, None
        found.updated_at = now
        found.save()
        change = {"before": {"enabled": False}, "after": {"enabled": True}}
        entry(Act.WEBHOOK_CHANGED, target=found.id, data={"url": found.host, **change})
    return found


def remove_endpoint(endpoint: Endpoint, *, actor: Actor) -> None:
    """Delete an endpoint with its secrets and deliveries. Writes `webhook.removed`.

    Raises `WebhookStateForbids` where it is gone already.
    """
    with ledger.recording(endpoint.organization_id, actor) as entry:
        found = _locked(endpoint)
        Endpoint.objects.filter(pk=found.pk).delete()
        entry(Act.WEBHOOK_REMOVED, target=endpoint.id, data={"url": found.host})


def resend_delivery(delivery: Delivery, *, actor: Actor) -> Delivery:
    """Deliver once more, with the same `webhook-id`, from the first attempt on; one that waits goes at once.

    Writes `webhook.resent`. Raises `WebhookStateForbids` while the endpoint is disabled or an attempt runs.
    """
    now = timezone.now()
    with ledger.recording(delivery.organization_id, actor) as entry:
        endpoint = _enabled(delivery.endpoint)
        if delivery.place is None:
            raise WebhookStateForbids("A test event is not sent twice: send another.")
        found = Delivery.objects.select_for_update(no_key=True).filter(pk=delivery.pk).first()
        if found is None or (found.is_running and found.next_attempt_at and found.next_attempt_at > now):
            raise WebhookStateForbids("This delivery is being sent right now.")
        found.state, found.attempts, found.claim = DeliveryState.PENDING, 0, ""
        found.next_attempt_at, found.finished_at = now, None
        found.save()
        enqueue(endpoint.organization_id)
        entry(Act.WEBHOOK_RESENT, target=endpoint.id, data={"deliveries": 1, "delivery": found.id})
    return found


def resend_range(endpoint: Endpoint, since: datetime, until: datetime, *, actor: Actor) -> int:
    """Deliver once more what was appended from `since` to `until` and is subscribed to now; return how many that is.

    What was delivered goes again with the same `webhook-id`; what runs or waits stays as it is. Writes
    `webhook.resent`. Raises `WebhookInvalid` for none, and for more than 10,000 entries; `WebhookStateForbids`.
    """
    if until <= since:
        raise WebhookInvalid("The end must be after the beginning.", field="until")
    with ledger.recording(endpoint.organization_id, actor) as entry:
        found = _enabled(endpoint)
        rows = Entry.objects.of(found.organization_id).filter(at__gte=since, at__lte=until).oldest_first()
        places = rows.values_list("epoch", "index", "act")[: MOST_RESENT + 1]
        entries = [place for place in places if patterns.matches(found.acts, place[2])]
        if len(places) > MOST_RESENT:
            raise WebhookInvalid(
                f"That is more than {MOST_RESENT:,} entries: choose a shorter time.", field="since"
            )
        if not entries:
            raise WebhookInvalid(
                "Nothing that this webhook subscribes to was recorded in that time.", field="since"
            )
        expansion.queue(found, entries)
        _renew(found, entries)
        enqueue(found.organization_id)
        entry(
            Act.WEBHOOK_RESENT,
            target=found.id,
            data={"deliveries": len(entries), "since": since, "until": until},
        )
    return len(entries)


def send_test_event(endpoint: Endpoint, *, actor: Actor) -> Delivery:
    """Send an endpoint `webhook.test`, once and whether it is disabled or not: an event that stands in no ledger.

    Writes `webhook.tested`. Raises `WebhookStateForbids` while another test is on its way.
    """
    now = timezone.now()
    with ledger.recording(endpoint.organization_id, actor) as entry:
        found = _locked(endpoint)
        if Delivery.objects.filter(endpoint=found, epoch=None, state=DeliveryState.PENDING).exists():
            raise WebhookStateForbids("A test event is on its way already.")
        made = Delivery.objects.create(
            id=ids.new("msg"),
            organization_id=found.organization_id,
            endpoint=found,
            act=body.TEST,
            asked_by=actor.id,
            created_at=now,
            next_attempt_at=now,
        )
        enqueue(found.organization_id)
        entry(Act.WEBHOOK_TESTED, target=found.id, data={"delivery": made.id})
    return made


def _locked(endpoint: Endpoint) -> Endpoint:
    found = Endpoint.objects.select_for_update(no_key=True).filter(pk=endpoint.pk).first()
    if found is None:
        raise WebhookStateForbids("This webhook was removed meanwhile.")
    return found


def _enabled(endpoint: Endpoint) -> Endpoint:
    found = _locked(endpoint)
    if found.is_disabled:
        raise WebhookStateForbids("This webhook is disabled: enable it first.")
    return found


def _renew(endpoint: Endpoint, entries: Sequence[tuple[int, int, str]]) -> None:
    """Begin anew with those that ended."""
    messages = [signing.message_id(endpoint.id, epoch, index) for epoch, index, _ in entries]
    ended = Delivery.objects.filter(endpoint=endpoint, pk__in=messages).exclude(state=DeliveryState.PENDING)
    ended.update(
        state=DeliveryState.PENDING, attempts=0, claim="", next_attempt_at=timezone.now(), finished_at=None
    )


def _keep(endpoint: Endpoint, version: int, secret: str, now: datetime) -> None:
    EndpointSecret.objects.create(
        endpoint=endpoint,
        organization_id=endpoint.organization_id,
        version=version,
        sealed=encryption.encrypt(secret.encode()),
        created_at=now,
    )


def _id_of(form: str, actor: Actor) -> str:
    """Return the id that a form's one endpoint has: whoever sends it twice finds what the first time made."""
    digest = hashlib.sha256(f"{actor.id}/{form}".encode()).digest()
    return "whk_" + base64.b32encode(digest).decode().lower()[: ids.LENGTH]


def _lock_count(organization_id: str) -> None:
    """Let one endpoint at a time be made in an organization, so that the cap holds in a race."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('webhooks:' || %s, 0))", [organization_id]
        )


def _shown(endpoint: Endpoint) -> dict[str, Any]:
    """Return what an entry says of an endpoint."""
    return {"url": endpoint.host, "acts": _named(endpoint.acts)}


def _named(acts: Sequence[str]) -> list[str]:
    """Return patterns as an entry has them: the first forty, so that it stays short."""
    more = len(acts) - ACTS_NAMED
    return [*acts[:ACTS_NAMED], *([f"and {more} more"] if more > 0 else [])]


def _destination(url: str, organization_id: str) -> Destination:
    if redaction.holds_secret(url):
        raise WebhookInvalid("This looks like a secret, which does not belong here.", field="url")
    return guard.check(url, organization_id)


def _description(text: str) -> str:
    words = " ".join(text.split())
    if len(words) > MOST_DESCRIPTION:
        raise WebhookInvalid(f"At most {MOST_DESCRIPTION} characters.", field="description")
    if not words.isprintable():
        raise WebhookInvalid("There are characters here that can't be shown.", field="description")
    if redaction.holds_secret(words):
        raise WebhookInvalid("This looks like a secret, which does not belong here.", field="description")
    return words
