"""Where settings come from: the environment, else the file that the demo wrote. Pure but for reading files."""

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent


def home() -> Path:
    """Return the folder of this installation's own files (`KEYSTEAD_HOME`, else `.keystead`)."""
    return Path(os.environ.get("KEYSTEAD_HOME") or BASE_DIR / ".keystead")


def read() -> Mapping[str, str]:
    """Return the configuration: the environment, and under it `env` in `home()` where that names no database.

    A deployment that sets `DATABASE_URL` never reads the demo's file, so the two can't mix.
    """
    if os.environ.get("DATABASE_URL"):
        return os.environ
    try:
        lines = (home() / "env").read_text().splitlines()
    except FileNotFoundError:
        return os.environ
    except OSError as error:
        raise ImproperlyConfigured(f"can't read {home() / 'env'}: {error.strerror}") from error
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {**dict(pairs), **os.environ}


def required(config: Mapping[str, str], name: str) -> str:
    """Return one setting; raise `ImproperlyConfigured` with its name where it is missing or empty."""
    value = config.get(name, "").strip()
    if not value:
        raise ImproperlyConfigured(f"{name} is not set; see README.md, “Settings”.")
    return value


def from_file(config: Mapping[str, str], name: str, default: str = "") -> str:
    """Return the setting `name`, or what the file named by `name_FILE` holds; "" and `default` where neither is set."""
    path = config.get(f"{name}_FILE")
    if not path:
        return config.get(name, default).strip()
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise ImproperlyConfigured(f"{name}_FILE: can't read {path}: {error.strerror}") from error


def peppers(text: str) -> dict[int, bytes]:
    """Parse `1:<hex>,2:<hex>` into versions and their bytes (32 or more); the highest version is the newest.

    Raises `ImproperlyConfigured` without repeating any of the value.
    """
    try:
        pairs = [item.split(":", 1) for item in text.replace("\n", ",").split(",") if item.strip()]
        found = {int(version): bytes.fromhex(value.strip()) for version, value in pairs}
    except ValueError:
        found = {}
    if not found or len(found) != len(pairs) or any(len(v) < 32 or k < 1 for k, v in found.items()):  # noqa: PLR2004
        raise ImproperlyConfigured(
            "KEYSTEAD_PEPPER (or the file in KEYSTEAD_PEPPER_FILE) must be `1:<64 hex digits>`, versions by comma."
        )
    return found


def encryption_keys(text: str) -> tuple[str, ...]:
    """Parse Fernet keys (URL-safe base64 of 32 bytes each) by comma; the first encrypts, all of them decrypt.

    Raises `ImproperlyConfigured` without repeating any of the value.
    """
    found = tuple(item.strip() for item in text.replace("\n", ",").split(",") if item.strip())
    fits = all(re.fullmatch(r"[A-Za-z0-9_-]{43}=", item) for item in found)
    if not found or not fits:
        raise ImproperlyConfigured(
            "KEYSTEAD_ENCRYPTION_KEYS (or the file in KEYSTEAD_ENCRYPTION_KEYS_FILE) must be the URL-safe base64"
            " of 32 bytes, several by comma with the newest first."
        )
    return found


def ports(text: str, name: str) -> frozenset[int]:
    """Parse a comma-separated list of TCP ports."""
    found = [item.strip() for item in text.split(",") if item.strip()]
    if not all(item.isascii() and item.isdigit() and 0 < int(item[:6]) < 65_536 for item in found):  # noqa: PLR2004
        raise ImproperlyConfigured(f"{name} must be port numbers, several by comma.")
    return frozenset(int(item) for item in found)


def brand(text: str) -> str:
    """Return the first segment of every secret that this deployment makes."""
    if re.fullmatch(r"[a-z0-9]{2,8}", text) is None:
        raise ImproperlyConfigured("KEYSTEAD_BRAND must be 2 to 8 lower-case letters and digits.")
    return text


def partner_keys(text: str) -> str:
    """Return where the secret-scanning partner's public keys are: an absolute path, an https address, or nothing."""
    place = text.strip()
    if not place or place.startswith("https://") or Path(place).is_absolute():
        return place
    raise ImproperlyConfigured("KEYSTEAD_SECRET_SCANNING_KEYS must be an absolute path or an https address.")


def networks(text: str, name: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """Parse a comma-separated list of CIDRs."""
    try:
        return tuple(ipaddress.ip_network(item.strip()) for item in text.split(",") if item.strip())
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}: {error}") from error


def base_url(url: str) -> tuple[str, str, bool]:
    """Split the public address into (url, host, is plain http); plain http is for this machine alone."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in {"http", "https"} or not host or parts.path not in {"", "/"}:
        raise ImproperlyConfigured("KEYSTEAD_BASE_URL must be like https://keys.example.com, without a path.")
    plain = parts.scheme == "http"
    if plain and host not in {"127.0.0.1", "localhost", "::1"}:
        raise ImproperlyConfigured(
            "KEYSTEAD_BASE_URL: plain http is served on this machine's loopback only; use https."
        )
    return url.rstrip("/"), host, plain
