"""Keys that rotate by themselves, and how the sealed secret reaches its recipient (spec EVENTS, Auto-rotation)."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection

from audit import ledger, tenancy
from audit.actors import WORKER, Actor
from audit.acts import Act
from audit.ledger import Recorder
from audit.webhooks.waiting import is_waiting
from keys import clock, due, looking
from keys.errors import KeysError
from keys.models import ApiKey, KeySecret, Recipient, Rotation
from keys.models.notice import What
from keys.services.common import facts, policy_of
from keys.services.recipients import lapsed_recipients, newest_recipient
from keys.services.rotating import rotate_unattended
from orgs.models import Organization

# What a failed attempt says; the code of a `KeysError` else.
NO_RECIPIENT: Final = "no_recipient"
UNCONFIRMED: Final = "recipient_unconfirmed"
INTERNAL: Final = "internal_error"
TRY_AGAIN: Final = timedelta(minutes=10)
# Registering or confirming a recipient makes keys due at once, so nothing waits for this.
WITHOUT_RECIPIENT: Final = timedelta(hours=6)
SUSPENDED: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A new secret on its way: opened by the recipient alone."""

    recipient: str
    ciphertext: str


@dataclass(frozen=True, slots=True)
class _Due:
    """A key whose time may have come, locked, and what its next turn is."""

    key: ApiKey
    turn: due.Turn


def rotate_when_due(organization_id: str, key_id: str) -> Rotation | None:
    """Rotate a key by itself if its time has come, sealed to the organization's newest recipient.

    Writes what `rotate_unattended` does, in one transaction of its own, and when to look at the key next. What keeps it
    from rotating is told once for each time that it is due, as `rotation.failed`; it is tried again. Whoever else
    holds the key, another worker too, goes first: then this does nothing.

    Returns:
        The rotation, or None where there was none.
    """
    with tenancy.within(organization_id), ledger.recording(organization_id, WORKER) as entry:
        now = clock.now()
        key = _locked(key_id)
        if key is None:
            return None
        found, next_at = _when(key, now)
        if found is None:
            looking.postpone(What.ROTATION, {key_id: next_at})
            return None
        rotated, next_at = _attempt(entry, found, now)
        looking.postpone(What.ROTATION, {key_id: next_at})
        return rotated


def tell_of_failure(organization_id: str, key_id: str) -> None:
    """Say once that a key's rotation failed for a reason of ours, after its transaction was undone."""
    with tenancy.within(organization_id), ledger.recording(organization_id, WORKER) as entry:
        now = clock.now()
        key = _locked(key_id)
        found = _when(key, now)[0] if key else None
        if found is not None:
            _fail(entry, found, INTERNAL, now)


def hand_out(rotation: Rotation, now: datetime, *, actor: Actor) -> Sealed | None:
    """Return a running rotation's sealed secret and forget it: whoever asks again gets nothing.

    Writes the rotation and, as it is forgotten, the entry `rotation.fetched`: whoever waits for it in vain sees where
    it went. While a webhook has yet to carry it, it is not forgotten: else whoever asks first, with a key that can't
    open it perhaps, would leave the recipient without it. To be called in the transaction whose commit comes before
    the answer. None where it was fetched, where the rotation has ended, and where there never was one.
    """
    # Most rotations never had one, and none is put there later: who asks how they stand costs no more than that.
    if rotation.sealed_secret is None or not rotation.is_running(now):
        return None
    if is_waiting(rotation.organization_id, Act.ROTATION_STARTED, rotation.key_id):
        return _told(rotation.sealed_to, rotation.sealed_secret)
    with ledger.recording(rotation.organization_id, actor) as entry:
        row = _forget(rotation.id)
        if row is None:
            return None
        told = facts(rotation.key, rotation=rotation.id, version=rotation.new_version, recipient=row[0])
        entry(Act.ROTATION_FETCHED, target=rotation.key_id, data=told)
    return _told(row[0], row[1])


def sealed_facts(organization_id: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the webhook `rotation.started` carries beside its entry: the sealed secret while it is here."""
    with tenancy.within(organization_id):
        found = (
            Rotation.objects.select_related("key")
            .filter(pk=str(data.get("rotation", "")), organization_id=organization_id)
            .first()
        )
        if found is None or found.sealed_secret is None or not found.is_running(clock.now()):
            return {"sealed_secret": None}
        sealed = _told(found.sealed_to, found.sealed_secret)
    return {"sealed_secret": {"recipient": sealed.recipient, "ciphertext": sealed.ciphertext}}


def forget_ended(now: datetime) -> int:
    """Forget the sealed secrets of rotations that time ended; return how many. Of others the database does it."""
    with tenancy.everywhere(tenancy.Reason.WORKER), connection.cursor() as cursor:
        cursor.execute(
            "UPDATE keys_rotation r SET sealed_secret = NULL FROM keys_apikey k"
            " WHERE r.sealed_secret IS NOT NULL AND k.id = r.key_id"
            " AND (r.grace_ends_at <= %s OR k.revoked_at IS NOT NULL)",
            [now],
        )
        return int(cursor.rowcount)


def _forget(rotation_id: str) -> tuple[str, Any] | None:
    """Forget a sealed secret and return whom it is sealed to and what it was; None where somebody was faster."""
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH held AS (SELECT id, sealed_secret, sealed_to FROM keys_rotation"
            " WHERE id = %s AND sealed_secret IS NOT NULL FOR UPDATE)"
            " UPDATE keys_rotation r SET sealed_secret = NULL FROM held WHERE r.id = held.id"
            " RETURNING held.sealed_to, held.sealed_secret",
            [rotation_id],
        )
        row: tuple[str, Any] | None = cursor.fetchone()
    return row


def _locked(key_id: str) -> ApiKey | None:
    keys = ApiKey.objects.select_related("project", "environment").filter(pk=key_id)
    return keys.select_for_update(of=("self",), no_key=True, skip_locked=True).first()


def _when(key: ApiKey, now: datetime) -> tuple[_Due | None, datetime | None]:
    """Return the key if its time has come, else when to look again; None for never."""
    is_over = key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now)
    if is_over or key.is_disabled or not key.auto_rotate or key.rotation_interval_days is None:
        return None, None
    if key.disabled_until is not None and key.disabled_until > now:
        return None, key.disabled_until
    if Organization.objects.filter(pk=key.organization_id, suspended_at__isnull=False).exists():
        return None, now + SUSPENDED
    newest = KeySecret.objects.only("created_at", "expires_at").get(key=key, version=key.newest_version)
    turn = due.next_turn(
        made_at=newest.created_at,
        expires_at=newest.expires_at,
        interval_days=key.rotation_interval_days,
        grace_seconds=policy_of(key.organization_id).auto_grace_seconds,
    )
    not_before = max(turn.at, _after_cancel(key, turn))
    return (_Due(key, turn), None) if not_before <= now else (None, not_before)


def _after_cancel(key: ApiKey, turn: due.Turn) -> datetime:
    """Return when to try again after somebody took the last rotation back: not at once, or they could never."""
    cancelled = Rotation.objects.filter(key=key, old_version=key.newest_version, cancelled_at__isnull=False)
    last = cancelled.order_by("-cancelled_at").values_list("cancelled_at", flat=True).first()
    return last + timedelta(seconds=turn.grace_seconds / 2) if last else turn.at


def _attempt(entry: Recorder, found: _Due, now: datetime) -> tuple[Rotation | None, datetime]:
    recipient = newest_recipient(found.key.organization_id, is_locked=True)
    if recipient is None:
        is_lapsed = bool(lapsed_recipients(found.key.organization_id))
        _fail(entry, found, UNCONFIRMED if is_lapsed else NO_RECIPIENT, now)
        return None, now + WITHOUT_RECIPIENT
    try:
        return _rotate(found, recipient, now), now
    except KeysError as error:
        _fail(entry, found, error.code, now)
        return None, now + TRY_AGAIN


def _rotate(found: _Due, recipient: Recipient, now: datetime) -> Rotation:
    """Rotate under a savepoint, so that a refusal takes back every row and entry of the attempt."""
    with ledger.recording(found.key.organization_id, WORKER) as entry:
        return rotate_unattended(
            entry,
            found.key,
            recipient=recipient,
            grace_seconds=found.turn.grace_seconds,
            actor=WORKER,
            now=now,
            cause="interval",
        )


def _fail(entry: Recorder, found: _Due, reason: str, now: datetime) -> None:
    """Say that a key did not rotate when it was due, once for that time."""
    key, about = found.key, found.turn.at
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO keys_notice (key_id, version, act, days, about, organization_id, at, is_told)"
            " VALUES (%s, %s, %s, 0, %s, %s, %s, true) ON CONFLICT DO NOTHING",
            [key.id, key.newest_version, Act.ROTATION_FAILED, about, key.organization_id, now],
        )
        is_first = cursor.rowcount == 1
    if is_first:
        told = facts(key, reason=reason, version=key.newest_version, due_at=about, expires_at=key.expires_at)
        entry(Act.ROTATION_FAILED, target=key.id, data=told)


def _told(recipient: str, ciphertext: Any) -> Sealed:
    return Sealed(recipient, base64.b64encode(bytes(ciphertext)).decode())
