"""The address of an endpoint, read strictly: one way to write each, or it is refused (spec EVENTS). Pure.

Whoever writes `https://0x7f.1/`, `https://good.example\\@127.0.0.1/` or a name with a dot at its end counts on two
programs reading it differently. What is no plain address never reaches a program that might.
"""

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from audit.errors import WebhookAddressRefused

MOST: Final = 2048
DEFAULT_PORT: Final = 443
MOST_NAME: Final = 253
_SCHEME: Final = "https://"
_PRINTABLE: Final = re.compile(r"[\x21-\x7e]+")
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# What some program would read as a number, and so as a part of an IPv4 address (WHATWG URL, "ends in a number").
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where an endpoint's URL leads. `host` is a name in lower case or an address in its one written form."""

    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """What stands in `Host`."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == DEFAULT_PORT else f"{name}:{self.port}"

    @property
    def url(self) -> str:
        """The URL in its one written form."""
        return f"{_SCHEME}{self.authority}{self.target}"

    @property
    def literal(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The address, where the host is one and not a name."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None


def parse(url: str, ports: Collection[int]) -> Destination:
    """Read the URL of an endpoint; raises `WebhookAddressRefused` with one clear reason."""
    if len(url) > MOST:
        raise _refused(f"The URL is longer than {MOST:,} characters.")
    if _PRINTABLE.fullmatch(url) is None or "\\" in url:
        raise _refused(
            "The URL has characters that no URL has: write a name with other letters in its ASCII form (xn--…),"
            " everything else percent-encoded."
        )
    if url[: len(_SCHEME)].lower() != _SCHEME:
        raise _refused("The URL must begin with https://.")
    rest = url[len(_SCHEME) :]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    target = rest[len(authority) :]
    if "#" in target:
        raise _refused("The URL has a fragment (#…), which is never sent: leave it out.")
    if "@" in authority:
        raise _refused("The URL has a user name or an @ before its path: leave it out.")
    host, port = _split(authority.lower())
    if port not in ports:
        allowed = " or ".join(str(each) for each in sorted(ports))
        raise _refused(f"Webhooks go to port {allowed} only.")
    return Destination(host=host, port=port, target=target if target.startswith("/") else f"/{target}")


def _split(authority: str) -> tuple[str, int]:
    if authority.startswith("["):
        literal, bracket, after = authority[1:].partition("]")
        if not bracket or (after and not after.startswith(":")):
            raise _refused("The brackets around the IPv6 address are not closed.")
        return _ipv6(literal), _port(after)
    host, colon, port = authority.partition(":")
    return _name(host), _port(colon + port)


def _port(text: str) -> int:
    if not text:
        return DEFAULT_PORT
    if _PORT.fullmatch(text[1:]) is None:
        raise _refused("The port is no plain number.")
    return int(text[1:])


def _ipv6(text: str) -> str:
    if "%" in text:
        raise _refused("An address with a zone (%…) means something on one machine only.")
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise _refused("What stands in brackets is no IPv6 address.") from None


def _name(host: str) -> str:
    if not host:
        raise _refused("The URL names no host.")
    labels = host.split(".")
    if host.endswith("."):
        raise _refused("The host's name ends with a dot: leave it out.")
    if _NUMBER.fullmatch(labels[-1]):
        return _ipv4(host)
    if len(host) > MOST_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise _refused("The host's name is no name that the DNS can have.")
    if len(labels) == 1:
        raise _refused("The host's name has no domain: write it in full.")
    return host


def _ipv4(host: str) -> str:
    """Refuse every other notation: `127.1`, `2130706433`, `0x7f.0.0.1`, `0177.0.0.1`."""
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        raise _refused("An IPv4 address is written as four plain decimal numbers.") from None


def _refused(reason: str) -> WebhookAddressRefused:
    return WebhookAddressRefused(reason, field="url")
