"""The credential of a call, as RFC 6750 has it: in `Authorization`, once, and never in the address."""

import re
from http import HTTPStatus
from typing import Final, NoReturn
from urllib.parse import parse_qsl

from keys import secret
from keys.api.problems import Problem, unreadable
from keys.scopes import holds

REALM: Final = 'Bearer realm="keystead"'
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
# Where other APIs take a key in the query: here it would stay in logs, so that it is refused, not overlooked.
_KEY_NAMES: Final = frozenset(
    {"access_token", "api_key", "api-key", "apikey", "authorization", "bearer", "key", "secret", "token"}
)


def bearer(header: str) -> str:
    """Return what stands after `Bearer`; raises a `Problem` where there is nothing, or more than one thing."""
    scheme, _, rest = header.strip().partition(" ")
    token = rest.strip()
    if "," in header and "bearer" in header.lower():
        raise unreadable("Authenticate once, by one method.")
    if scheme.lower() != "bearer":
        raise Problem(
            HTTPStatus.UNAUTHORIZED,
            "unauthenticated",
            "Send a key as Authorization: Bearer.",
            {"WWW-Authenticate": REALM},
        )
    if _TOKEN.fullmatch(token) is None:
        refuse_token()
    return token


def refuse_key_in_query(query: str, *, allowed: frozenset[str] = frozenset()) -> None:
    """Raise a `Problem` with 400 where the address carries a key, or what looks like one.

    `allowed` are parameters that an operation takes although others name keys so.
    """
    if not query:
        return
    for name, value in parse_qsl(query, keep_blank_values=True):
        is_for_keys = name.lower() in _KEY_NAMES - allowed
        if is_for_keys or any(secret.redact(text) != text for text in (name, value)):
            raise unreadable("A key never goes into the address: it would stay in logs.")


def require(scopes: tuple[str, ...], scope: str) -> None:
    """Raise a `Problem` with 403 unless a key's effective scopes cover the one that is needed."""
    if scope and not holds(scopes, scope):
        _refuse(HTTPStatus.FORBIDDEN, "insufficient_scope", f"This needs the scope {scope}.", scope=scope)


def refuse_token() -> NoReturn:
    """Raise the `Problem` of a key that is not valid, whatever the reason."""
    _refuse(HTTPStatus.UNAUTHORIZED, "invalid_token", "This key is not valid here.")


def _refuse(status: HTTPStatus, code: str, detail: str, **parameters: str) -> NoReturn:
    challenge = {"error": code, **parameters}
    values = ", ".join(f'{name}="{value}"' for name, value in challenge.items())
    raise Problem(status, code, detail, {"WWW-Authenticate": f"{REALM}, {values}"})
