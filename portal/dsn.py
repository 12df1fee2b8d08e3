"""Database URLs, as `DATABASE_URL` and its siblings carry them, to Django's form and back.

The form is libpq's: `postgres://user:password@host:port/dbname?host=/socket/folder&options=…`. What is
wrong is said in one line that never quotes the URL: with an unescaped `?`, `/` or `#` in the password, any
part of it may be secret.
"""

import re
from typing import Any
from urllib.parse import quote, unquote

SCHEMES = ("postgres", "postgresql")
PASSED_ON = frozenset(
    {
        "application_name",
        "channel_binding",
        "connect_timeout",
        "gssencmode",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "options",
        "sslcert",
        "sslcrl",
        "sslkey",
        "sslmode",
        "sslrootcert",
        "target_session_attrs",
        "tcp_user_timeout",
    }
)
HIGHEST_PORT = 65535
_STRAY_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
_BLANK_OR_CONTROL = re.compile(r"[\x00-\x20\x7f]")


class DsnError(ValueError):
    """The database URL can't be read; the message is one line without any part of the URL."""


def parse(url: str, name: str = "DATABASE_URL", **defaults: str) -> dict[str, Any]:
    """Read a database URL into an entry of Django's `DATABASES`.

    `name` is the variable that an error speaks of; `defaults` are connection options that the URL overrides.
    The result is secret: it holds the password. Raises `DsnError`. Source: PostgreSQL's 'Connection URIs'.
    """
    try:
        entry = _parse(url)
    except DsnError as error:
        message = f"{name} {error}"
    else:
        return entry | {"OPTIONS": defaults | entry["OPTIONS"]}
    raise DsnError(message)


def build(
    *,
    user: str = "",
    password: str = "",
    host: str = "",
    port: int | str = "",
    dbname: str = "",
    options: dict[str, str] | None = None,
) -> str:
    """Write a database URL; the inverse of `parse`. A host that is a folder (a unix socket) goes to `?host=`.

    Secret when a password is given. Raises `DsnError` for what `parse` would refuse.
    """
    login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    parameters = {"host": host} if host.startswith("/") else {}
    address = "" if parameters else _bracketed(host)
    address += f":{port}" if port else ""
    query = "&".join(
        f"{key}={quote(value, safe='/')}" for key, value in (parameters | (options or {})).items()
    )
    url = f"postgres://{login}{'@' if login else ''}{address}/{quote(dbname, safe='')}"
    url += f"?{query}" if query else ""
    parse(url, "the database URL")
    return url


def replaced(url: str, **parts: Any) -> str:
    """Write `url` again with some of the parts of `build` replaced. Raises `DsnError`."""
    entry = parse(url, "the database URL")
    present = {
        "user": entry["USER"],
        "password": entry["PASSWORD"],
        "host": entry["HOST"],
        "port": entry["PORT"],
        "dbname": entry["NAME"],
        "options": {key: str(value) for key, value in entry["OPTIONS"].items()},
    }
    return build(**(present | parts))


def _parse(url: str) -> dict[str, Any]:
    if _BLANK_OR_CONTROL.search(url):
        raise DsnError("holds a blank or a control character; percent-encode it")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise DsnError("must begin with postgres:// or postgresql://")
    if "#" in rest:
        raise DsnError("holds a '#'; percent-encode it as %23")
    front, _, query = rest.partition("?")
    authority, _, path = front.partition("/")
    user, password, host, port = _authority(authority)
    parameters = _parameters(query)
    name = _decoded(path)
    if not name or "/" in path:
        raise DsnError("must name one database after the host: …/dbname (and '/' in a password is %2F)")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": user,
        "PASSWORD": password,
        "HOST": parameters.pop("host", host),
        "PORT": _port(parameters.pop("port", port)),
        "OPTIONS": _options(parameters),
    }


def _authority(authority: str) -> tuple[str, str, str, str]:
    login, at, address = authority.rpartition("@")
    if "@" in login:
        raise DsnError("holds more than one '@'; percent-encode those of the password as %40")
    user, colon, password = login.partition(":")
    if ":" in password:
        raise DsnError("holds more than one ':' before the '@'; percent-encode those of the password as %3A")
    if at and not user:
        raise DsnError("has an '@' but no user before it")
    host, port = _address(address)
    return _decoded(user), _decoded(password) if colon else "", host, port


def _address(address: str) -> tuple[str, str]:
    if "," in address:
        raise DsnError("must name one host")
    if address.startswith("["):
        host, bracket, rest = address[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise DsnError("has an IPv6 address that is not in brackets")
        return host, rest[1:]
    host, _, port = address.partition(":")
    return _decoded(host), port


def _port(text: str) -> str:
    if text and not (text.isascii() and text.isdecimal() and 0 < int(text) <= HIGHEST_PORT):
        raise DsnError("has a port that is no number from 1 to 65535 (and '/' in a password is %2F)")
    return text


def _parameters(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in query.split("&") if query else []:
        key, equals, value = part.partition("=")
        if not equals or key not in PASSED_ON | {"host", "port"}:
            raise DsnError("has an unknown parameter after the '?' (and '?' in a password is %3F)")
        if key in found:
            raise DsnError(f"gives {key} twice")
        found[key] = _decoded(value)
    return found


def _options(parameters: dict[str, str]) -> dict[str, Any]:
    timeout = parameters.get("connect_timeout", "0")
    if not (timeout.isascii() and timeout.isdecimal()):
        raise DsnError("has a connect_timeout that is no number of seconds")
    numbers = {"connect_timeout": int(timeout)} if "connect_timeout" in parameters else {}
    return parameters | numbers


def _decoded(text: str) -> str:
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        decoded = "\0"
    if "\0" in decoded or _STRAY_PERCENT.search(text):
        raise DsnError("holds a '%' that begins no percent-encoding of UTF-8; a plain '%' is %25")
    return decoded


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else quote(host, safe="")
