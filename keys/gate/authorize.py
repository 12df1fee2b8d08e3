"""`GET|POST /v1/authorize`: forward-auth, for proxies that ask before they let a request through. Spec API."""

from http import HTTPStatus
from ipaddress import ip_network
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from django.conf import settings

from audit.requests import client_address
from keys import secret as secrets
from keys.api.problems import Problem
from keys.api.requests import MAX_COST, MAX_ID, MAX_SLUG
from keys.errors import Invalid, Unavailable
from keys.gate import credentials, standing
from keys.gate.messages import Incoming, Outgoing
from keys.scopes import Query, all_of, parse_query
from keys.verdict import Code
from keys.verification import NO_CREDENTIAL, Ask, Call, Credential, Judged, Own, credential, recent
from keys.verification.engine import Engine

SCOPE: Final = "keys:verify"
PARAMETERS: Final = frozenset({"scopes", "environment", "project", "entitlement", "region", "cost"})
CODE: Final = "X-Keystead-Code"
# Of the proxy or of us, never of the client; `X-Keystead-Code` says which.
VERIFIER_REFUSED: Final = "VERIFIER_REFUSED"
REQUEST_INVALID: Final = "REQUEST_INVALID"
UNAVAILABLE: Final = "UNAVAILABLE"
STATUSES: Final = {
    Code.VALID: HTTPStatus.NO_CONTENT,
    Code.MALFORMED: HTTPStatus.UNAUTHORIZED,
    Code.NOT_FOUND: HTTPStatus.UNAUTHORIZED,
    Code.REVOKED: HTTPStatus.UNAUTHORIZED,
    Code.DISABLED: HTTPStatus.UNAUTHORIZED,
    Code.EXPIRED: HTTPStatus.UNAUTHORIZED,
    Code.SECRET_RETIRED: HTTPStatus.UNAUTHORIZED,
    Code.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    Code.QUOTA_EXCEEDED: HTTPStatus.TOO_MANY_REQUESTS,
}
MAX_ENDPOINT: Final = 256
MAX_REGION: Final = 64


async def authorize(request: Incoming, engine: Engine) -> Outgoing:
    """Answer by the status: 204, 401, 403 or 429 of the client's key, 502 of the proxy's own fault, 503 of ours."""
    try:
        call = _call(request)
    except (Problem, Invalid, ValueError):
        return Outgoing(HTTPStatus.BAD_GATEWAY, headers={CODE: REQUEST_INVALID})
    try:
        answer = await engine.ask(call)
    except Unavailable:
        return Outgoing(HTTPStatus.SERVICE_UNAVAILABLE, headers={CODE: UNAVAILABLE, "Retry-After": "1"})
    if answer.presented is None:
        return Outgoing(HTTPStatus.BAD_GATEWAY, headers={CODE: VERIFIER_REFUSED})
    return _answer(answer.presented)


def _call(request: Incoming) -> Call:
    """Return the call; raises `Problem`, `Invalid` or `ValueError` where the proxy asks what nobody can answer."""
    verifier, client = _credentials(request)
    return Call(
        verifier=verifier,
        own=Own(ip=request.peer, scope=SCOPE),
        presented=client,
        ask=_ask(request),
    )


def _credentials(request: Incoming) -> tuple[Credential, Credential]:
    """Return the verifier's and the client's.

    With `X-Keystead-Verifier` the client's stands in `Authorization`, else in `X-Forwarded-Api-Key`, bare or after
    `Bearer`. Both ways at once is a client that meddles, or a proxy that does not overwrite what a client sends.
    """
    authorization = request.header("authorization")
    if verifier := request.header("x-keystead-verifier"):
        if "x-forwarded-api-key" in request.headers:
            raise ValueError("two ways at once")
        return recent.credential(_bare(verifier)), _of_client(authorization, is_bare=False)
    return recent.credential(_bare(authorization)), _of_client(
        request.header("x-forwarded-api-key"), is_bare=True
    )


def _bare(header: str) -> str:
    scheme, _, rest = header.strip().partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else header.strip()


def _of_client(header: str, *, is_bare: bool) -> Credential:
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() == "bearer":
        return credential(rest.strip())
    return credential(header.strip()) if is_bare else NO_CREDENTIAL


def _ask(request: Incoming) -> Ask:
    credentials.refuse_key_in_query(request.query)
    given = parse_qsl(request.query, keep_blank_values=True)
    names = [name for name, _ in given if name != "scopes"]
    if not PARAMETERS.issuperset(names) or len(set(names)) != len(names):
        raise ValueError("unknown or repeated parameter")
    values = dict(given)
    cost = int(values.get("cost", "1"))
    fits = (
        0 <= cost <= MAX_COST
        and len(values.get("project", "")) <= MAX_ID
        and all(len(values.get(name, "")) <= MAX_SLUG for name in ("environment", "entitlement"))
        and len(values.get("region", "").encode()) <= MAX_REGION
        and "\0" not in "".join(values.values())
    )
    if not fits:
        raise ValueError("a parameter is out of its bounds")
    return Ask(
        query=_query([value for name, value in given if name == "scopes"]),
        environment=values.get("environment") or None,
        project=values.get("project") or None,
        entitlement=values.get("entitlement") or None,
        ip=_client_ip(request),
        cost=cost,
        endpoint=_endpoint(request),
        region=values.get("region", ""),
        user_agent=_cut(request.header("user-agent"), MAX_ENDPOINT),
        request_id=request.request_id,
    )


def _query(values: list[str]) -> Query | None:
    """Return the scopes that are needed: `scopes` repeated or with commas is a list, one with blanks a query."""
    texts = [text.strip() for value in values for text in value.split(",")]
    if not any(texts):
        return None
    return parse_query(texts[0]) if len(texts) == 1 else all_of(texts)


def _client_ip(request: Incoming) -> str | None:
    """Return the address that the proxy names: it comes before ours among those that are trusted."""
    forwarded = request.header("x-forwarded-for")
    if not forwarded or not request.peer:
        return None
    trusted = [ip_network(request.peer), *settings.TRUSTED_PROXIES]
    return client_address(request.peer, forwarded, trusted) or None


def _endpoint(request: Incoming) -> str:
    """Return `GET /v1/incidents`; the query is left out, because it may hold anything."""
    method = request.header("x-forwarded-method") or request.header("x-original-method") or request.method
    uri = request.header("x-forwarded-uri") or request.header("x-original-uri")
    try:
        path = urlsplit(uri).path if uri else ""
    except ValueError:
        path = ""
    return _cut(f"{method} {path}".strip(), MAX_ENDPOINT) if path else ""


def _cut(text: str, limit: int) -> str:
    """Return text as it may be kept: bounded in bytes, without NUL, without a secret."""
    clean = secrets.redact(text.replace("\0", ""))
    return clean.encode()[:limit].decode(errors="ignore")


def _answer(judged: Judged) -> Outgoing:
    code = judged.verdict.code
    status = STATUSES.get(code, HTTPStatus.FORBIDDEN)
    headers = {CODE: code.value, **standing.limit_headers(judged.counted)}
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = f'{credentials.REALM}, error="invalid_token"'
    if status is HTTPStatus.NO_CONTENT and judged.known is not None:
        headers |= {
            "X-Keystead-Org": judged.known.row.organization_id,
            "X-Keystead-Key": judged.known.row.key_id,
            "X-Keystead-Plan": judged.known.place.plan_slug,
            "X-Keystead-Scopes": " ".join(judged.verdict.scopes),
        }
    return Outgoing(status, headers=headers | standing.expiry_headers(judged))
