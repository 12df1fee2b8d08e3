"""Where mail goes: `KEYSTEAD_EMAIL_URL` read into Django's settings. Pure."""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

SMTP: Final = "django.core.mail.backends.smtp.EmailBackend"
MAILBOX: Final = "portal.mailbox.Backend"
# Of each step that waits for the server; the worker's other lane goes on meanwhile.
TIMEOUT_SECONDS: Final = 15
PORTS: Final = {"smtp": 587, "smtps": 465}
_ADDRESS: Final = r"[^\s@<>,;:\"()]+@[^\s@<>,;:\"()]+"
SENDER: Final = re.compile(rf"{_ADDRESS}|[^@<>,;:\"()\r\n]+ <{_ADDRESS}>")
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})

type Mailers = dict[str, dict[str, Any]]


def mailers(url: str, *, is_demo: bool) -> Mailers:
    """Return Django's `MAILERS` for a mail server's URL; none for "".

    `smtp://user:password@host:587` asks for STARTTLS, `?tls=none` does without, `smtps://` is TLS from the first
    byte. `mailbox:` keeps mail in the demo's own folder, only where the portal serves this machine alone (`is_demo`).

    Raises:
        ImproperlyConfigured: anything else, without repeating any of it, for it may hold a password.
    """
    if not url:
        return {}
    if url == "mailbox:":
        if not is_demo:
            raise ImproperlyConfigured(
                "KEYSTEAD_EMAIL_URL=mailbox: is the demo's, on this machine's loopback only."
            )
        return {"default": {"BACKEND": MAILBOX}}
    try:
        return {"default": {"BACKEND": SMTP, "OPTIONS": _options(url)}}
    except ValueError:
        raise ImproperlyConfigured(
            "KEYSTEAD_EMAIL_URL must be like smtp://user:password@mail.example.com:587 (STARTTLS), with ?tls=none"
            " where no password is sent or the server is this machine, or smtps://…:465; % and @ in a password are"
            " written %25 and %40."
        ) from None


def _options(url: str) -> Mapping[str, Any]:
    """Read a URL of a mail server; raises `ValueError` for what is none, and for a password without TLS."""
    parts = urlsplit(url)
    query = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
    tls = query.pop("tls", ["starttls"])
    if (
        parts.scheme not in PORTS
        or not parts.hostname
        or parts.path not in {"", "/"}
        or parts.fragment
        or query
    ):
        raise ValueError
    if tls not in (["starttls"], ["none"]) or (parts.scheme == "smtps" and "tls=" in parts.query):
        raise ValueError
    is_plain = tls == ["none"]
    if is_plain and parts.username and parts.hostname not in LOOPBACK:
        raise ValueError
    return {
        "host": parts.hostname,
        "port": parts.port or PORTS[parts.scheme],
        "username": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "use_ssl": parts.scheme == "smtps",
        "use_tls": parts.scheme == "smtp" and not is_plain,
        "timeout": TIMEOUT_SECONDS,
    }


def sender(text: str, *, is_needed: bool) -> str:
    """Return the address that mail comes from, as `Keystead <keys@example.com>` or without the name.

    Raises:
        ImproperlyConfigured: it is no address, or there is none and mail is sent.
    """
    if not text and not is_needed:
        return ""
    if SENDER.fullmatch(text) is None:
        raise ImproperlyConfigured(
            "KEYSTEAD_EMAIL_FROM must be the address that mail comes from, like keys@example.com."
        )
    return text
