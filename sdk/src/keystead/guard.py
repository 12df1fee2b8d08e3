"""Guarding a view: from what a request shows to a question, from a refusal to an answer of RFC 6750. Without I/O.

The middleware of ASGI, WSGI and Django all go through here, and differ in how they read and answer alone.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl

from keystead.errors import (
    ConfigurationError,
    InsufficientScope,
    InvalidKey,
    KeysteadError,
    RateLimited,
    Refused,
    Unavailable,
)
from keystead.models import KeyInfo, RateLimit
from keystead.question import MAX_SECRET, Question, ask
from keystead.secret import looks_like_secret, redact

MAX_TEXT: Final = 256
MAX_REGION: Final = 64
AUTHORIZATION: Final = "authorization"
_BEARER: Final = "bearer"
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
# RFC 6749 §3.3's token, which is wider than what a portal takes.
_SCOPE_TOKEN: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_SCOPE: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}:[a-z*][a-z0-9_*-]{0,31}")
_HEADER_NAME: Final = re.compile(r"[a-z0-9-]+")
_REALM: Final = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]*")
# Where other APIs take a key in the query: it stays in logs and histories, so that it is refused, not overlooked.
_KEY_NAMES: Final = frozenset({"access_token", "api_key", "api-key", "apikey"})
_log: Final = logging.getLogger("keystead")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Seen:
    """What a request shows before its body is read.

    Args:
        route: the path's pattern where it is known, `/incidents/{id}`, else the path.
        headers: names in lower case, in the order they came.
        query: as it was sent, percent-encoded.
        peer: the address at the other end of the connection, empty where it has none.
    """

    method: str
    route: str
    headers: Sequence[tuple[str, str]] = field(repr=False)
    query: str = field(default="", repr=False)
    peer: str = ""

    def values(self, name: str) -> list[str]:
        """Return every value of a header."""
        return [value.strip() for each, value in self.headers if each == name]


@dataclass(frozen=True)
class Reply:
    """An answer in place of the view's."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Guard:
    """What a view demands of a presented key, and how what is refused is answered.

    Args:
        scopes: all of them are needed; one text may be a query such as `a:read AND (b:read OR b:*)`.
        environment, project, entitlement, cost, region: as `validate` takes them.
        headers: where a key may be, `Authorization` (as Bearer) unless told; in one of them at a time.
        trusted_proxies: CIDRs whose `X-Forwarded-For` is believed; nobody's unless told.
        realm: named in `WWW-Authenticate`.

    Raises:
        ConfigurationError: a scope, header, network or realm that is none.
    """

    def __init__(  # noqa: PLR0913
        self,
        scopes: Sequence[str] | str = (),
        *,
        environment: str | None = None,
        project: str | None = None,
        entitlement: str | None = None,
        cost: int = 1,
        region: str | None = None,
        headers: Sequence[str] = ("Authorization",),
        trusted_proxies: Iterable[str] = (),
        realm: str = "api",
    ) -> None:
        self.scopes = _wanted(scopes)
        self.environment = environment
        self.project = project
        self.entitlement = entitlement
        self.cost = cost
        self.region = region
        self.headers = _names(headers)
        self.trusted = _networks(trusted_proxies)
        if _REALM.fullmatch(realm) is None:
            raise ConfigurationError("A realm is printable ASCII without quotes.")
        self.realm = realm

    def question(self, seen: Seen) -> Question | Reply:
        """Return what to have judged, or the answer to a request that shows no key, or shows one wrongly."""
        if _has_key_in_query(seen.query):
            return self._bad_request("A key never goes into the address: it would stay in logs.")
        found = self._presented(seen)
        if len(found) > 1:
            return self._bad_request("Present one key, in one place.")
        if not found:
            return self._challenge(HTTPStatus.UNAUTHORIZED, "unauthenticated", "An API key is needed.")
        if len(found[0]) > MAX_SECRET or _TOKEN.fullmatch(found[0]) is None:
            return self._invalid_token("")
        return ask(
            found[0],
            scopes=self.scopes or None,
            environment=self.environment,
            project=self.project,
            entitlement=self.entitlement,
            ip=self._address(seen),
            endpoint=_bounded(f"{seen.method} {redact(seen.route)}", MAX_TEXT),
            region=_bounded(self.region or "", MAX_REGION),
            user_agent=_bounded(redact(" ".join(seen.values("user-agent")[:1])), MAX_TEXT),
            cost=self.cost,
            request_id=_request_id(seen),
        )

    def again(self, question: Question, key: KeyInfo, earlier: Question) -> Question | Reply | None:
        """Return what is left to ask of a key that was judged for this request already.

        None where it has all that is needed; a question that spends nothing where only the portal can tell.
        """
        same = question.secret == earlier.secret and all(
            mine in {None, theirs}
            for mine, theirs in (
                (question.environment, earlier.environment),
                (question.project, earlier.project),
                (question.entitlement, earlier.entitlement),
            )
        )
        if not same or isinstance(self.scopes, str):
            return question._replace(cost=0) if question.secret == earlier.secret else question
        return None if key.has_scopes(*self.scopes) else self._insufficient(self.scopes, key.request_id)

    def reply(self, error: KeysteadError) -> Reply:
        """Return the answer for a key that was refused, or that could not be judged: never the view's."""
        if isinstance(error, InvalidKey):
            return self._invalid_token(error.request_id)
        if isinstance(error, InsufficientScope):
            wanted = error.missing_scopes if isinstance(self.scopes, str) else self.scopes
            return self._insufficient(wanted or error.missing_scopes, error.request_id)
        if isinstance(error, RateLimited):
            return _too_many(error)
        if isinstance(error, Refused):
            detail = "This API key may not do that."
            return _reply(HTTPStatus.FORBIDDEN, _code(error), detail, request_id=error.request_id)
        return _unjudged(error)

    def _presented(self, seen: Seen) -> list[str]:
        found = []
        for name in {AUTHORIZATION: None, **dict.fromkeys(self.headers)}:
            for value in seen.values(name):
                if name in self.headers or looks_like_secret(value):
                    found += _tokens(value, is_bare_allowed=name != AUTHORIZATION)
        return found

    def _address(self, seen: Seen) -> str | None:
        """Return the client's address: the peer's, or behind trusted proxies the right-most untrusted one."""
        address = _normal(seen.peer)
        forwarded = ",".join(seen.values("x-forwarded-for")) if self.trusted else ""
        for entry in reversed([part.strip() for part in forwarded.split(",") if part.strip()]):
            found = _normal(entry)
            if not self._is_trusted(address) or not found:
                break
            address = found
        return address or None

    def _is_trusted(self, address: str) -> bool:
        if not address:
            return False
        parsed = ipaddress.ip_address(address)
        return any(parsed in network for network in self.trusted if network.version == parsed.version)

    def _bad_request(self, detail: str) -> Reply:
        return self._challenge(HTTPStatus.BAD_REQUEST, "invalid_request", detail, error="invalid_request")

    def _invalid_token(self, request_id: str) -> Reply:
        """Return the one answer for every key that is not good, so that it tells nothing of why."""
        return self._challenge(
            HTTPStatus.UNAUTHORIZED,
            "invalid_token",
            "This API key is not valid.",
            request_id=request_id,
            error="invalid_token",
        )

    def _insufficient(self, scopes: Sequence[str], request_id: str) -> Reply:
        named = " ".join(scope for scope in scopes if _SCOPE_TOKEN.fullmatch(scope))
        return self._challenge(
            HTTPStatus.FORBIDDEN,
            "insufficient_scope",
            "This API key lacks a scope that is needed.",
            request_id=request_id,
            error="insufficient_scope",
            scope=named,
        )

    def _challenge(
        self, status: HTTPStatus, code: str, detail: str, *, request_id: str = "", **parameters: str
    ) -> Reply:
        stated = {"realm": self.realm, **parameters}
        challenge = ", ".join(f'{name}="{value}"' for name, value in stated.items() if value)
        headers = {"WWW-Authenticate": f"Bearer {challenge}".strip()}
        return _reply(status, code, detail, headers, request_id)


def rate_limit_headers(key: KeyInfo) -> dict[str, str]:
    """Return `RateLimit` and `RateLimit-Policy` (the IETF draft's) for a key that has a limit, else nothing."""
    return _limit_headers(key.rate_limit)


def _limit_headers(limit: RateLimit | None) -> dict[str, str]:
    if limit is None:
        return {}
    return {
        "RateLimit-Policy": f'"per-key";q={limit.limit};w={limit.window_seconds}',
        "RateLimit": f'"per-key";r={max(0, limit.remaining)};t={math.ceil(limit.reset_seconds)}',
    }


def _too_many(error: RateLimited) -> Reply:
    key = error.verdict.key
    headers = _limit_headers(key.rate_limit) if key else {}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = _seconds(error.retry_after_seconds)
    detail = "Too much was asked of this API key."
    return _reply(HTTPStatus.TOO_MANY_REQUESTS, _code(error), detail, headers, error.request_id)


def _unjudged(error: KeysteadError) -> Reply:
    """Return the answer where there is no verdict, and tell the operator: the client can't help it."""
    if isinstance(error, Unavailable):
        _log.warning("no verdict: %s (request %s)", error, error.request_id)
        headers = {"Retry-After": _seconds(error.retry_after_seconds or 1)}
        detail = "API keys can't be checked at the moment."
        return _reply(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", detail, headers)
    _log.error("the portal refused to judge: %s", error)
    return _reply(HTTPStatus.BAD_GATEWAY, "verifier_refused", "API keys can't be checked here.")


def _reply(
    status: HTTPStatus, code: str, detail: str, headers: Mapping[str, str] | None = None, request_id: str = ""
) -> Reply:
    document = {"type": "about:blank", "title": status.phrase, "status": int(status), "detail": detail}
    document |= {"code": code, **({"request_id": request_id} if request_id else {})}
    body = json.dumps(document).encode()
    own = {"Content-Type": "application/problem+json", "Content-Length": str(len(body))}
    sent = {**own, "Cache-Control": "no-store", **(headers or {})}
    return Reply(int(status), tuple(sent.items()), body)


def _code(error: Refused) -> str:
    return redact(error.code).lower()


def _seconds(seconds: float) -> str:
    return str(max(1, math.ceil(seconds)))


def _wanted(scopes: Sequence[str] | str) -> tuple[str, ...] | str:
    """Return a list as a list, a text that is a single scope as a list of it, and a query as it is.

    Raises:
        ConfigurationError: in a list is what is no scope, such as a query.
    """
    if isinstance(scopes, str) and re.search(r"[\s()]", scopes):
        return scopes
    wanted = (scopes,) if isinstance(scopes, str) else tuple(scopes)
    if not all(map(_SCOPE.fullmatch, wanted)):
        raise ConfigurationError("A scope is written resource:action; a query stands alone, as one text.")
    return wanted


def _names(headers: Sequence[str]) -> tuple[str, ...]:
    names = tuple(name.lower() for name in ([headers] if isinstance(headers, str) else headers))
    if not names or not all(map(_HEADER_NAME.fullmatch, names)):
        raise ConfigurationError("Name at least one header where a key may be.")
    return names


def _networks(texts: Iterable[str]) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(text) for text in texts)
    except ValueError:
        raise ConfigurationError("trusted_proxies are CIDRs, such as 10.0.0.0/8.") from None


def _has_key_in_query(query: str) -> bool:
    pairs = parse_qsl(query, keep_blank_values=True)
    return any(
        name.lower() in _KEY_NAMES or looks_like_secret(name) or looks_like_secret(value)
        for name, value in pairs
    )


def _tokens(value: str, *, is_bare_allowed: bool) -> list[str]:
    """Return what a header presents: nothing where its scheme is another one; more than one is too many."""
    parts = [part.strip() for part in value.split(",")]
    found = []
    for part in parts:
        scheme, space, rest = part.partition(" ")
        if scheme.lower() == _BEARER:
            found.append(rest.strip())
        elif is_bare_allowed and not space:
            found.append(part)
    # A key and something else is as bad as two keys.
    return parts if found and len(parts) > 1 else found


def _normal(text: str) -> str:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _bounded(text: str, limit: int) -> str | None:
    """Return at most so many bytes of a text that the portal will take, None for an empty one."""
    encoded = text.replace("\0", "").encode("utf-8", "replace")[:limit]
    return encoded.decode("utf-8", "ignore") or None


def _request_id(seen: Seen) -> str | None:
    given = " ".join(seen.values("x-request-id"))
    return given if _REQUEST_ID.fullmatch(given) and not looks_like_secret(given) else None
