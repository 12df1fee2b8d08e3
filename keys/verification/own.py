"""The key that calls the API: judged like any other, from the address that it calls from."""

from dataclasses import dataclass
from datetime import datetime

from keys import governance
from keys.callers import Presented
from keys.limits import Counted
from keys.models import ApiKey
from keys.verdict import Verdict
from keys.verification import running
from keys.verification.asking import Call, Judged, Own, credential
from orgs.models import Project


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The verdict on a caller's own key, the key unless it is not valid, where its rate limit stands, and its end."""

    verdict: Verdict
    presented: Presented | None
    counted: Counted
    ends_at: datetime | None


def authenticate(text: str, *, ip: str, cost: int = 0) -> Authenticated:
    """Judge the key that a caller of the API presents for itself, its addresses and state included.

    `cost` counts against its rate limit; 0 neither counts nor is limited. Leaves its last use at most once a minute.

    Raises:
        Unavailable: the database can't be reached.
    """
    answer = running.ask(Call(verifier=credential(text), own=Own(ip=ip, cost=cost)))
    judged = answer.verifier
    assert judged is not None  # noqa: S101 - whoever asks with a verifier is told of it
    ends_at = judged.known.ends_at if judged.known else None
    return Authenticated(judged.verdict, presented(judged), judged.counted, ends_at)


def presented(judged: Judged) -> Presented | None:
    """Return a judged caller's key, built from what was just read rather than read a second time."""
    if judged.known is None or not judged.verdict.is_valid:
        return None
    row, place, scopes = judged.known.row, judged.known.place, judged.verdict.scopes
    project = Project(id=place.project_id, organization_id=row.organization_id, path=place.path)
    key = ApiKey(
        id=row.key_id,
        name=row.name,
        kind=row.kind,
        organization_id=row.organization_id,
        project_id=place.project_id,
        allowed_ips=list(row.allowed_ips),
        newest_version=row.newest_version,
        expires_at=judged.known.ends_at,
    )
    return Presented(
        key=key,
        version=row.version,
        project=project,
        mode=place.mode,
        scopes=governance.free(scopes, judged.known.record.risks) if row.is_bound else scopes,
        is_operator=place.is_operator,
    )
