"""Burning a secret by possession, and what a secret-scanning partner found. No key authenticates either."""

from http import HTTPStatus
from typing import Any, Final, Literal

from django.http import HttpRequest, HttpResponse
from ninja import Router
from pydantic import ConfigDict, Field, TypeAdapter

from audit import tenancy
from audit.actors import Actor
from audit.requests import Request
from keys import services
from keys.api import docs, running
from keys.api.answers import Answer
from keys.api.auth import MAX_USER_AGENT
from keys.api.body import JSON, read_json
from keys.api.paging import check_names
from keys.api.problems import Problem, not_found
from keys.api.requests import MAX_TEXT, Strict
from keys.errors import NotSigned
from keys.gate import credentials
from keys.leaks import partner_keys, possession, scanning
from orgs import limits

router = Router(tags=["Leaks"])
BURNS: Final = "30/m"


class BurnRequest(Strict):
    """A secret that is to be refused from now on."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"secret": "the secret that others know"}]})

    secret: str = Field(max_length=MAX_TEXT)


class BurnedOut(Answer):
    """The same for every secret, ours or not."""

    status: Literal["accepted"] = "accepted"


_SAME: Final = BurnedOut(status="accepted")


@router.post(
    "/keys/revoke",
    auth=None,
    response={202: BurnedOut},
    operation_id="burn_secret",
    summary="Burn a secret",
    openapi_extra=docs.open_change(429),
)
def secret_burn(request: Request, body: BurnRequest) -> HttpResponse:
    """Whoever holds a secret may end it: its key is revoked, or that secret alone while the key has another.

    The answer is the same whatever was sent, and comes after it was done. At most 30 calls a minute from an address.
    """
    credentials.refuse_key_in_query(request.META.get("QUERY_STRING", ""))
    check_names(request)
    _limit(request)
    held = possession.find([body.secret]).get(body.secret)
    if held is not None:
        with tenancy.within(held.organization_id):
            services.burn_secret(held, actor=_part("burning", request))
    return running.answer(HTTPStatus.ACCEPTED, _SAME)


class LabelOut(Answer):
    """What became of one finding, by the base64 of its SHA-256."""

    token_hash: str
    token_type: str
    label: Literal["true_positive", "false_positive"]


_LABELS: Final = TypeAdapter(list[LabelOut])
_FOUND: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        JSON: {
            "schema": {
                "type": "array",
                "maxItems": scanning.MAX_FOUND,
                "items": {
                    "type": "object",
                    "required": ["token", "type"],
                    "properties": {
                        "token": {"type": "string"},
                        "type": {"type": "string", "maxLength": scanning.MAX_TYPE},
                        "url": {"type": ["string", "null"]},
                        "source": {"type": "string"},
                    },
                },
            }
        }
    },
}
_SIGNED: Final = [
    {
        "in": "header",
        "name": f"Github-Public-Key-{name}",
        "required": True,
        "description": text,
        "schema": {"type": "string", "minLength": 1},
    }
    for name, text in (
        ("Identifier", "Which of the partner's keys signed."),
        ("Signature", "Base64 of the DER of ECDSA on P-256 over the SHA-256 of the raw body."),
    )
]


@router.post(
    "/secret-scanning/github",
    auth=None,
    response={200: list[LabelOut]},
    operation_id="report_found_secrets",
    summary="Report secrets found in public",
    openapi_extra={**docs.open_change(401, 404), "requestBody": _FOUND, "parameters": _SIGNED},
)
def secrets_found(request: Request) -> HttpResponse:
    """For GitHub's secret scanning, in its partner format: every secret of ours is stopped before this answers."""
    if not partner_keys.is_on():
        raise not_found()
    body = request.body
    try:
        partner_keys.check_signature(
            body,
            identifier=request.headers.get("Github-Public-Key-Identifier", ""),
            signature=request.headers.get("Github-Public-Key-Signature", ""),
        )
    except NotSigned as error:
        raise Problem(HTTPStatus.UNAUTHORIZED, error.code, error.detail, _CHALLENGE) from None
    labels = scanning.report(scanning.read(read_json(JSON, body)), actor=_part("scanning", request))
    answers = [
        LabelOut(
            token_hash=one.token_hash,
            token_type=one.token_type,
            label="true_positive" if one.is_ours else "false_positive",
        )
        for one in labels
    ]
    return HttpResponse(_LABELS.dump_json(answers), content_type=JSON)


_CHALLENGE: Final = {"WWW-Authenticate": 'Signature realm="keystead"'}


def _part(name: str, request: Request) -> Actor:
    """Return the product's own part that acts, and from where it was told to."""
    return Actor(
        id=f"sys_{name}",
        ip=request.client_ip,
        user_agent=request.headers.get("User-Agent", "")[:MAX_USER_AGENT],
        request_id=request.request_id,
    )


def _limit(request: HttpRequest) -> None:
    if limits.exceeds(request, group="burn", rate=BURNS):
        headers = {"Retry-After": str(limits.RETRY_AFTER_SECONDS)}
        raise Problem(
            HTTPStatus.TOO_MANY_REQUESTS, "rate_limited", "Too many calls from this address.", headers
        )
