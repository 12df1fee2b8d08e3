"""Incidents: what several keys were stopped for, with what each of them carried until then."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from django.db import connection

from audit.actors import Actor
from audit.ledger import Recorder
from keys import usage
from keys.errors import TakesTooLong
from keys.models import ApiKey, Incident, IncidentKind

# Counting must not hold up the act: an incident says that it could not count, and the pages count again.
COUNTING: Final = "1s"
_KEYS: Final = """
INSERT INTO keys_incidentkey (incident_id, key_id, organization_id, calls_24h, last_used_at, last_used_ip)
SELECT %(incident)s, k.id, %(organization)s, CASE WHEN %(is_counted)s THEN k.calls END, u.last_used_at, u.last_used_ip
  FROM unnest(%(keys)s::text[], %(calls)s::bigint[]) AS k (id, calls)
  LEFT JOIN keys_keyuse u ON u.key_id = k.id AND u.organization_id = %(organization)s
"""


def open_incident(  # noqa: PLR0913 - each is a fact of its own, all by name
    entry: Recorder,
    *,
    kind: IncidentKind,
    organization_id: str,
    reason: str,
    keys: Collection[ApiKey],
    actor: Actor,
    now: datetime,
    source: str = "",
    url: str = "",
) -> Incident:
    """Open the incident of an act, and freeze what its keys carried until then (spec PAGES, Break-glass).

    Part of another service: it runs inside that one's `ledger.recording`, of which it takes the `entry`, and the act's
    own entry names the incident. Writes the incident and a row for each key, in as many statements whatever their
    number.

    Args:
        keys: of this organization.
        reason: free text, checked by the caller.
        source, url: who found a leak and where; at most 64 and 2,048 characters.

    Returns:
        The incident, for its id.

    Raises:
        ValueError: the recording is of another organization.
    """
    incident = Incident(
        organization_id=organization_id,
        kind=kind,
        reason=reason,
        source=source,
        url=url,
        opened_at=now,
        opened_by=actor.id,
    )
    keep_incident(entry, incident, [key.id for key in keys])
    return incident


def keep_incident(entry: Recorder, incident: Incident, key_ids: Collection[str]) -> None:
    """Write an incident that was put together, and its keys, in another service's recording.

    Raises:
        ValueError: the recording is of another organization.
    """
    if entry.organization_id != incident.organization_id:
        raise ValueError("an incident is written with its own organization's entries")
    incident.save(force_insert=True)
    calls = _calls(incident.organization_id, key_ids, incident.opened_at)
    parameters: dict[str, Any] = {
        "incident": incident.id,
        "organization": incident.organization_id,
        "is_counted": calls is not None,
        "keys": list(key_ids),
        "calls": [(calls or {}).get(key_id, 0) for key_id in key_ids],
    }
    with connection.cursor() as cursor:
        cursor.execute(_KEYS, parameters)


def _calls(organization_id: str, key_ids: Collection[str], now: datetime) -> dict[str, int] | None:
    try:
        return usage.calls_of_day(organization_id, key_ids, now, patience=COUNTING)
    except TakesTooLong:
        return None
