"""`POST /v1/keys/verify`: may this presented secret do what it asks?"""

import json
from typing import Any, Final

import msgspec

from keys import secret as secrets
from keys import verdict
from keys.api.body import read_json
from keys.api.problems import Problem
from keys.api.requests import VerifyRequest
from keys.api.times import as_text
from keys.gate import credentials, standing
from keys.gate.messages import JSON, Incoming, Outgoing, refuse_parameters, validated
from keys.governance import Approval
from keys.rotation import known_end
from keys.scopes import Query, all_of, parse_query
from keys.verification import Ask, Call, Judged, Own, credential, recent
from keys.verification.engine import Engine
from keys.verification.records import Row

SCOPE: Final = "keys:verify"


async def verify(request: Incoming, engine: Engine) -> Outgoing:
    """200 for every verdict: 401 and 403 speak of the verifier's own key.

    Raises:
        Problem: the request can't be read, or the verifier's key does not do.
        Unavailable: nothing can be said now.
    """
    token = credentials.bearer(request.header("authorization"))
    credentials.refuse_key_in_query(request.query)
    verifier, own = recent.credential(token), Own(ip=request.client_ip, scope=SCOPE)
    try:
        asked = _asked(request)
    except Problem:
        # Whoever may not ask is told that before what is wrong with the question.
        answer = await engine.ask(Call(verifier=verifier, own=own))
        _require(answer.verifier)
        raise
    answer = await engine.ask(
        Call(verifier=verifier, own=own, presented=credential(asked.secret), ask=_ask(asked))
    )
    _require(answer.verifier)
    assert answer.presented is not None  # noqa: S101 - a verifier that may ask is answered
    body = msgspec.json.encode(document(answer.presented, request.request_id))
    return Outgoing(200, body, {"Content-Type": JSON, **standing.expiry_headers(answer.verifier)})


def _require(verifier: Judged | None) -> None:
    if verifier is None or not verifier.verdict.is_valid:
        credentials.refuse_token()
    credentials.require(verifier.verdict.scopes, SCOPE)


def _asked(request: Incoming) -> VerifyRequest:
    refuse_parameters(request)
    found = read_json(request.header("content-type"), request.body) if request.body else {}
    return validated(VerifyRequest, found)


def _ask(asked: VerifyRequest) -> Ask:
    return Ask(
        query=_query(asked.scopes),
        environment=asked.environment,
        project=asked.project,
        entitlement=asked.entitlement,
        ip=asked.ip,
        cost=asked.cost,
        endpoint=asked.endpoint or "",
        region=asked.region or "",
        user_agent=asked.user_agent or "",
        request_id=asked.request_id or "",
        trace=asked.trace.model_dump(exclude_none=True) if asked.trace else {},
    )


def _query(scopes: list[str] | str | None) -> Query | None:
    if scopes is None:
        return None
    return parse_query(scopes) if isinstance(scopes, str) else all_of(scopes)


def document(judged: Judged, request_id: str) -> dict[str, Any]:
    """Return what a verifier is told (`answers.VerdictOut`); of a key that it may not know of, the code alone."""
    found, known, counted = judged.verdict, judged.known, judged.counted
    told: dict[str, Any] = {"valid": found.is_valid, "code": found.code, "request_id": request_id}
    if known is None:
        return told
    row, place = known.row, known.place
    return told | {
        "key": _key(row),
        "organization": {
            "id": row.organization_id,
            "slug": place.organization_slug,
            "name": place.organization_name,
        },
        "plan": {"slug": place.plan_slug, "name": place.plan_name},
        "project": place.project_id,
        "environment": place.environment,
        "scopes": found.scopes,
        "missing_scopes": found.missing_scopes,
        "entitlements": known.record.entitlements,
        "rate_limit": counted.rate_limit,
        "quota": counted.quota
        and {
            "limit": counted.quota.limit,
            "used": counted.quota.used,
            "period_ends_at": as_text(counted.quota.period_ends_at),
        },
        "approval": found.approval and _approval(found.approval),
    }


def _approval(approval: Approval) -> dict[str, Any]:
    """Return what a service compares with what it is about to do."""
    return {
        "id": approval.id,
        "scope": approval.scope,
        "resource": approval.resource,
        "parameters_digest": approval.parameters_digest,
        "uses_left": approval.uses - approval.spent,
        "valid_until": as_text(approval.valid_until),
    }


def _key(row: Row) -> dict[str, Any]:
    accepted_until = known_end(row.accepted_until)
    return {
        "id": row.key_id,
        "name": row.name,
        "kind": row.kind,
        "expires_at": row.expires_at and as_text(row.expires_at),
        "expires_soon": verdict.expires_soon(row.expires_at, row.now),
        "owner": _owner(row),
        "tags": _tags(row.tags),
        "secret_version": row.version,
        "retiring": row.version != row.newest_version,
        "accepted_until": accepted_until and as_text(accepted_until),
    }


def _owner(row: Row) -> dict[str, str]:
    if row.owner_user_id is not None:
        return {"type": "member", "id": row.owner_user_id, "name": secrets.redact(row.owner_name or "")}
    return {"type": "team", "name": secrets.redact(row.owner_team)}


def _tags(text: str) -> dict[str, str]:
    """Return tags as they are shown: a secret that was typed there by mistake is hidden."""
    return {} if text == "{}" else {name: secrets.redact(value) for name, value in json.loads(text).items()}
