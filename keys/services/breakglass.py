"""Break-glass: every key that a filter takes, revoked in one act and one transaction (spec KEYS §6)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.core.exceptions import EmptyResultSet
from django.db import OperationalError, connection
from psycopg.errors import DeadlockDetected, LockNotAvailable

from audit import ledger, tenancy
from audit.acts import Act
from audit.ledger import Recorder
from keys import breakglass, clock
from keys.callers import Caller
from keys.errors import Invalid, StepUpNeeded, Unavailable
from keys.listing import Filters
from keys.models import ApiKeyQuerySet, Incident, IncidentKind
from keys.models.key import RevocationReason
from keys.policy import check_note
from keys.services.creation import hold_creation
from keys.services.incidents import keep_incident

# How long the act waits for each lock that somebody holds. Then it answers that nothing was revoked.
PATIENCE: Final = "3s"
_HELD: Final = (
    "Another change has held one of these keys for some seconds. Nothing was revoked: try again at once."
)
# One guarded statement. The rows are locked in order of id, as everywhere, so that two acts at once can't deadlock.
_REVOKE: Final = """
WITH chosen AS MATERIALIZED ({chosen})
UPDATE keys_apikey k
   SET revoked_at = %s, revoked_by = %s, revocation_reason = %s, revocation_note = %s, ended_at = %s, updated_at = %s
  FROM chosen WHERE k.id = chosen.id AND k.revoked_at IS NULL
RETURNING k.id, k.name
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """What a break-glass did. `incident` is None where no key matched; `took_caller`: the acting key went, too."""

    incident: Incident | None
    count: int
    took_caller: bool


def break_glass(filters: Filters, *, actor: Caller, reason: str, is_whole: bool = False) -> Broken:
    """Revoke every key that matches a filter and is not revoked yet: all of them or, on any error, none.

    No verification that begins after this returned and committed succeeds with any of them, nor with a secret that a
    rotation was giving one of them meanwhile. Whatever was created up to that moment and matches goes too, whether it
    was shown before or not: new keys wait until the act is done. Writes the keys, the incident with a row for each key,
    one entry `key.revoked` for each and one `breakglass.executed` for the act, which alone seals who it was and why.
    Needs no worker, mail or webhook.

    Args:
        actor: a person who stepped up, or a key; its reach narrows the filter. Its own key goes too where it matches.
        reason: why, 1 to 1,000 bytes of text.
        is_whole: see `breakglass.check`.

    Raises:
        Forbidden: the caller may not break the glass; record it by `refuse_break_glass` in a transaction of its own.
        StepUpNeeded: the person has not confirmed who they are within the last five minutes.
        Invalid: an empty filter, one that speaks of what there is not, or no reason (`filter…`, `reason`).
        Unavailable: somebody held a key, or creation, for longer than 3 s. The transaction is lost.
    """
    note = check_reason(reason)
    with _patient(), ledger.recording(filters.organization_id, actor) as entry:
        hold_creation(filters.organization_id)
        now = clock.now()
        found = breakglass.matching(filters, actor, now)
        if actor.is_person and not actor.has_stepped_up:
            raise StepUpNeeded
        breakglass.check(filters, is_whole=is_whole)
        revoked = _revoke(found, actor, note, now)
        asked = breakglass.told(filters, is_whole=is_whole)
        incident = Incident(
            organization_id=filters.organization_id,
            kind=IncidentKind.BREAK_GLASS,
            reason=note,
            filter=asked,
            opened_at=now,
            opened_by=actor.id,
        )
        if revoked:
            keep_incident(entry, incident, [key_id for key_id, _ in revoked])
        _record(entry, incident, revoked)
    return Broken(
        incident=incident if revoked else None,
        count=len(revoked),
        took_caller=any(key_id == actor.id for key_id, _ in revoked),
    )


def refuse_break_glass(organization_id: str, *, actor: Caller, cause: str) -> None:
    """Record that somebody tried who may not: entry `breakglass.refused`, in a transaction that nothing takes back.

    Call it outside any other transaction. `cause` is a word of the code's own: `role`, `scope`.
    """
    with tenancy.within(organization_id), ledger.recording(organization_id, actor) as entry:
        entry(Act.BREAKGLASS_REFUSED, target=actor.id, data={"cause": cause})


def check_reason(text: str) -> str:
    """Return the reason of an act; raises `Invalid` (field `reason`) where it says nothing or too much."""
    if not text.strip():
        raise Invalid("Say why: whoever reads the incident asks first.", field="reason")
    try:
        return check_note(text.strip())
    except Invalid as error:
        raise Invalid(error.detail, field="reason") from None


@contextmanager
def _patient() -> Iterator[None]:
    """Wait for no lock longer than `PATIENCE`, until the transaction ends."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [PATIENCE])
        yield
    except OperationalError as error:
        if isinstance(error.__cause__, LockNotAvailable | DeadlockDetected):
            raise Unavailable(_HELD) from error
        raise


def _revoke(found: ApiKeyQuerySet, actor: Caller, note: str, now: datetime) -> list[tuple[str, str]]:
    """Revoke the keys that are found, and return the id and name of each, in order of id."""
    chosen = found.order_by("id").select_for_update(of=("self",)).values("id")
    try:
        sql, parameters = chosen.query.sql_with_params()
    except EmptyResultSet:  # a scope or an owner that nothing has
        return []
    columns: list[Any] = [now, actor.id, RevocationReason.INCIDENT.value, note, now, now]
    with connection.cursor() as cursor:
        cursor.execute(_REVOKE.format(chosen=sql), [*parameters, *columns])
        return sorted(cursor.fetchall())


def _record(entry: Recorder, incident: Incident, revoked: Sequence[tuple[str, str]]) -> None:
    for key_id, name in revoked:
        data = {"name": name, "reason": RevocationReason.INCIDENT.value}
        entry(Act.KEY_REVOKED, target=key_id, data=data, part_of=incident.id)
    entry(
        Act.BREAKGLASS_EXECUTED,
        target=incident.id if revoked else incident.organization_id,
        data={
            "count": len(revoked),
            "filter": {name: value for name, value in incident.filter.items() if name != "q"},
        },
        sealed={"reason": incident.reason, "q": incident.filter.get("q", "")},
    )
