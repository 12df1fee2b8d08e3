"""Where the portal is, and the key to call it with."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import httpx

from keystead.errors import ConfigurationError
from keystead.secret import Secret
from keystead.version import __version__

URL: Final = "KEYSTEAD_URL"
KEY: Final = "KEYSTEAD_KEY"
TIMEOUT_SECONDS: Final = 5.0
CONNECT_SECONDS: Final = 2.0
# Below uvicorn's 5 s, so that a call never goes out on a connection that the portal is just closing.
KEEPALIVE_SECONDS: Final = 4.0
CONNECTIONS: Final = 100
# For calls that need none: burning a secret that was found.
NO_KEY: Final = "none"
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")


@dataclass(frozen=True)
class Settings:
    """A client's settings, checked. `key` is secret; it is in no repr.

    Args:
        base_url: `https://keys.example.com`, without `/v1`.
        timeout: seconds that one attempt may take as a whole.
        retries: how often a call that may safely be repeated is.
        max_wait: seconds that a retry waits at most; a longer `Retry-After` is raised instead.
        user_agent: what stands before this package's own name, such as your service's.
    """

    base_url: str
    key: Secret = field(repr=False)
    timeout: float = TIMEOUT_SECONDS
    retries: int = 2
    max_wait: float = 2.0
    user_agent: str = ""

    def headers(self) -> dict[str, str]:
        """Return what every call carries, the key among it: secret."""
        own = f"keystead-python/{__version__} httpx/{httpx.__version__}"
        return {
            "Authorization": f"Bearer {self.key}",
            "User-Agent": f"{self.user_agent} {own}".strip(),
            "Accept": "application/json, application/problem+json",
            # Nothing to unpack: an answer can't be larger than what was read.
            "Accept-Encoding": "identity",
        }

    def timeouts(self) -> httpx.Timeout:
        """Return the timeouts of a single step."""
        return httpx.Timeout(self.timeout, connect=min(self.timeout, CONNECT_SECONDS))


def resolve(
    base_url: str | None,
    key: str | None,
    *,
    timeout: float = TIMEOUT_SECONDS,
    retries: int = 2,
    max_wait: float = 2.0,
    user_agent: str = "",
    allow_http: bool = False,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Return checked settings; what is not given comes from KEYSTEAD_URL and KEYSTEAD_KEY.

    Args:
        allow_http: send the key in clear text to a machine that is not this one, as within a trusted network.

    Raises:
        ConfigurationError: an address or a key is missing or no such thing; the message never has the key.
    """
    known = os.environ if environ is None else environ
    address, secret = base_url or known.get(URL, ""), (key or known.get(KEY, "")).strip()
    if not address:
        raise ConfigurationError(f"Give the portal's base_url, or set {URL}.")
    if not secret:
        raise ConfigurationError(f"Give a key, or set {KEY}.")
    if _TOKEN.fullmatch(secret) is None:
        raise ConfigurationError("The key has characters that no key has.")
    if timeout <= 0 or retries < 0 or max_wait < 0:
        raise ConfigurationError("timeout is above 0; retries and max_wait are not below it.")
    return Settings(
        _base(address, allow_http=allow_http), Secret(secret), timeout, retries, max_wait, user_agent
    )


def _base(address: str, *, allow_http: bool) -> str:
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL:
        raise ConfigurationError("The base_url is no address.") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigurationError("The base_url begins with https:// and a host.")
    if url.userinfo or url.query or url.fragment:
        raise ConfigurationError("The base_url has no user, query or fragment.")
    if url.scheme == "http" and not (allow_http or _is_loopback(url.host)):
        raise ConfigurationError("The key would travel in clear text: use https, or allow_http=True.")
    return str(url).rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
