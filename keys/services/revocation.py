"""Revoking a key, for good."""

from datetime import datetime

from audit import ledger
from audit.actors import Actor
from audit.acts import Act
from keys import clock
from keys.callers import Caller
from keys.errors import Invalid
from keys.models import ApiKey
from keys.models.key import RevocationReason
from keys.policy import check_note
from keys.services.common import check_reach, facts


def revoke_key(key: ApiKey, *, actor: Caller, reason: str = "", note: str = "") -> bool:
    """Revoke a key: no verification that begins after this returned and committed succeeds.

    Writes the key and the entry `key.revoked`. Revoking again changes and records nothing.

    Args:
        key: the caller's access to it was checked (404).
        reason: one of `RevocationReason`; "" means `other`.
        note: free text, at most 1,000 bytes; sealed in the ledger.

    Returns:
        Whether this call revoked it.

    Raises:
        Forbidden: the caller changes no keys at this project.
        Invalid: an unknown reason, or a note out of bounds (fields `reason`, `note`).
    """
    chosen = reason or RevocationReason.OTHER
    if chosen not in RevocationReason.values:
        raise Invalid(f"A reason is one of {', '.join(RevocationReason.values)}.", field="reason")
    text = check_note(note)
    check_reach(actor, key)
    with ledger.recording(key.organization_id, actor) as entry:
        now = clock.now()
        changed = end_key(key, actor, now, RevocationReason(chosen), text)
        if changed:
            entry(Act.KEY_REVOKED, target=key.id, data=facts(key, reason=str(chosen)), sealed={"note": text})
    key.refresh_from_db()
    return changed


def end_key(key: ApiKey, actor: Actor, now: datetime, reason: RevocationReason, note: str = "") -> bool:
    """Revoke a key's row in one guarded statement, inside another service's recording; return whether it was not."""
    changed = ApiKey.objects.filter(pk=key.pk, revoked_at__isnull=True).update(
        revoked_at=now,
        revoked_by=actor.id,
        revocation_reason=reason,
        revocation_note=note,
        ended_at=now,
        updated_at=now,
    )
    return bool(changed)
