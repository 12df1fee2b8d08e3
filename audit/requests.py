"""The request as the portal's middleware leaves it, and what it takes from the wire: its id, its caller's address."""

import ipaddress
import re
import secrets
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from django.http import HttpRequest

from audit.redaction import redact

type Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_SANE_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Request(HttpRequest):
    """A request with an id and the caller's address behind the trusted proxies."""

    request_id: str
    client_ip: str


def request_id(given: str) -> str:
    """Return the caller's id where it may be kept, else a fresh one.

    It goes into logs and ledgers, so that it must not be a secret.
    """
    is_sane = _SANE_ID.fullmatch(given) is not None and redact(given) == given
    return given if is_sane else f"req_{secrets.token_hex(12)}"


def client_address(peer: str, forwarded: str, trusted: Sequence[Network]) -> str:
    """Return the caller's address: the peer's, or behind trusted proxies the right-most untrusted one.

    An entry that is no address ends the walk at the last good one: nothing left of it can be believed.
    """
    address = _normal(peer)
    for entry in reversed([part.strip() for part in forwarded.split(",") if part.strip()]):
        if not is_trusted(address, trusted):
            break
        found = _normal(entry)
        if not found:
            break
        address = found
    return address


def is_trusted(peer: str, trusted: Sequence[Network]) -> bool:
    """Tell whether an address is a trusted proxy's."""
    if not trusted:
        return False
    try:
        address = ipaddress.ip_address(_normal(peer))
    except ValueError:
        return False
    return any(address in network for network in trusted)


@lru_cache(maxsize=4096)
def _normal(text: str) -> str:
    # A zone (`fe80::1%eth0`) means something on one machine only, and to PostgreSQL nothing.
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
