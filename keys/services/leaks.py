"""Secrets that others know: reported by whoever found them, or burned by whoever holds them (spec EVENTS, Leaks)."""

import hashlib
import string
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from audit import ledger, redaction
from audit.actors import Actor
from audit.acts import Act
from audit.ledger import Recorder
from keys import clock, rotation
from keys.leaks.possession import Held
from keys.models import ApiKey, IncidentKind, KeySecret, Leak, LeakAction, LeakOutcome, LeakSource, Rotation
from keys.models.key import RevocationReason
from keys.services.common import facts, policy_of
from keys.services.ending import finish, locked_key, undo
from keys.services.incidents import open_incident
from keys.services.revocation import end_key

MAX_URL: Final = 1_000
CAUSE: Final = "leaked"
BURNED: Final = "burned"
# Everything that an address may hold as it is; what else was sent is kept percent-encoded.
_PLAIN: Final = string.ascii_letters + string.digits + string.punctuation


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """What a report came to, and its incident ("" where nothing had to be stopped). `is_new`: it was no repetition."""

    outcome: LeakOutcome
    incident_id: str
    is_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    """A key and one version of its secret that others know, under the key's lock."""

    entry: Recorder
    key: ApiKey
    version: int
    actor: Actor
    now: datetime
    accepted: frozenset[int]


def report_leak(
    held: Held, *, actor: Actor, source: LeakSource = LeakSource.GITHUB, url: str = ""
) -> Reported:
    """Stop a key whose secret was found in public, as its organization's policy says: for good, or until enabled again.

    Writes, in one transaction, the key, the leak, an incident, and the entries `key.leaked` and `key.revoked` or
    `key.disabled`: what was reported is refused from the commit on. A secret that is refused already is recorded, and
    nothing more. The same secret at the same address again changes and records nothing.

    Args:
        held: what the secret opens (`keys.leaks.possession.find`); the transaction sees its organization.
        actor: the product's own part that was told.
        source: who told.
        url: where it was found; anything at all, and nothing of it is trusted.
    """
    return _report(held, _by_policy, actor=actor, source=source, url=url)


def burn_secret(held: Held, *, actor: Actor) -> Reported:
    """Stop a secret as whoever holds it wishes (spec KEYS §6): the key, or that secret alone where it has another.

    Writes what `report_leak` writes, whatever the policy says, and `rotation.cancelled` or `rotation.completed` in
    place of `key.revoked` where one of two secrets goes. Burning again changes and records nothing.
    """
    return _report(held, _by_holder, actor=actor, source=LeakSource.BURNED, url="")


def _report(
    held: Held, stop: Callable[[_Scene], LeakOutcome], *, actor: Actor, source: LeakSource, url: str
) -> Reported:
    place = hashlib.sha256(f"{source}\0{url}".encode("utf-8", "surrogatepass")).hexdigest()
    with ledger.recording(held.organization_id, actor) as entry:
        key = locked_key(held.key_id)
        now = clock.now()
        earlier = Leak.objects.filter(key=key, version=held.version, place=place).first()
        if earlier is not None:
            return Reported(
                outcome=LeakOutcome(earlier.outcome), incident_id=earlier.incident_id, is_new=False
            )
        scene = _Scene(
            entry=entry, key=key, version=held.version, actor=actor, now=now, accepted=_accepted(key, now)
        )
        outcome = stop(scene) if held.version in scene.accepted else LeakOutcome.NOTHING
        shown = clean_url(url)
        incident = _incident(scene, source, shown) if outcome is not LeakOutcome.NOTHING else ""
        Leak.objects.create(
            organization_id=key.organization_id,
            key=key,
            version=held.version,
            source=source,
            url=shown,
            place=place,
            outcome=outcome,
            incident_id=incident,
            found_at=now,
        )
        told = {"version": held.version, "source": source.value, "url": shown}
        entry(
            Act.KEY_LEAKED,
            target=key.id,
            data=facts(key, **told, outcome=outcome.value, incident=incident or None),
        )
    return Reported(outcome=outcome, incident_id=incident, is_new=True)


def clean_url(url: str) -> str:
    """Return an address that may be kept: ASCII, at most 1,000 characters, without secrets or whoever it logs in as."""
    text = quote(url, safe=_PLAIN, errors="replace")
    try:
        place = urlsplit(text).netloc
    except ValueError:
        place = ""
    if "@" in place:
        text = text.replace(place, place.rpartition("@")[2], 1)
    # Percent-encoded it is the same secret: whoever reads the address decodes it.
    if redaction.holds_secret(unquote(text)):
        text = quote(redaction.redact(unquote(text)).replace("…", "..."), safe=_PLAIN, errors="replace")
    return text[:MAX_URL]


def _accepted(key: ApiKey, now: datetime) -> frozenset[int]:
    """Return the versions that open the key, or would if it were enabled."""
    if key.revoked_at is not None:
        return frozenset()
    return frozenset(
        found.version
        for found in KeySecret.objects.filter(key=key)
        if not rotation.is_expired(found.expires_at, now)
        and not rotation.is_retired(found.version, key.newest_version, found.accepted_until, now)
    )


def _incident(scene: _Scene, source: LeakSource, url: str) -> str:
    incident = open_incident(
        scene.entry,
        kind=IncidentKind.LEAK,
        organization_id=scene.key.organization_id,
        reason=f"Version {scene.version} of the secret of {scene.key.name} is known to others.",
        keys=[scene.key],
        actor=scene.actor,
        now=scene.now,
        source=source.value,
        url=url,
    )
    return incident.id


def _by_policy(scene: _Scene) -> LeakOutcome:
    if policy_of(scene.key.organization_id).leak_action == LeakAction.QUARANTINE:
        return _quarantine(scene)
    return _revoke(scene)


def _by_holder(scene: _Scene) -> LeakOutcome:
    """Leave the key its other secret: burning the new one cancels the rotation, burning the old one completes it."""
    running = Rotation.objects.running(scene.now).filter(key=scene.key).first()
    if running is None or len(scene.accepted) == 1:
        return _revoke(scene)
    end = undo if scene.version == running.new_version else finish
    end(scene.entry, scene.key, running, actor=scene.actor, now=scene.now, how=BURNED)
    return LeakOutcome.RETIRED


def _revoke(scene: _Scene) -> LeakOutcome:
    reason = RevocationReason.LEAKED
    end_key(scene.key, scene.actor, scene.now, reason)
    data = facts(scene.key, reason=reason.value, version=scene.version)
    scene.entry(Act.KEY_REVOKED, target=scene.key.id, data=data)
    return LeakOutcome.REVOKED


def _quarantine(scene: _Scene) -> LeakOutcome:
    """Disable the key without end; one that is disabled so already stays as it is."""
    changed = ApiKey.objects.filter(pk=scene.key.pk, is_disabled=False).update(
        is_disabled=True, updated_at=scene.now
    )
    if changed:
        scene.entry(Act.KEY_DISABLED, target=scene.key.id, data=facts(scene.key, cause=CAUSE))
    return LeakOutcome.QUARANTINED
