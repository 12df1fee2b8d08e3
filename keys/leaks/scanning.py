"""What a secret-scanning partner found: read with distrust, looked up at once, and answered by hash."""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from django.conf import settings

from audit import tenancy
from audit.actors import Actor
from keys import secret, services
from keys.errors import Invalid
from keys.leaks import possession
from keys.leaks.possession import Held

MAX_FOUND: Final = 1_000
MAX_TYPE: Final = 256
log = structlog.get_logger("keystead.secret_scanning")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One secret that the partner found, what it takes it for, and where it was. `token` is secret."""

    token: str
    type: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What became of a finding: whether it was a secret of ours, by the base64 of its SHA-256."""

    token_hash: str
    token_type: str
    is_ours: bool


def read(message: Any) -> list[Finding]:
    """Return the findings of a parsed message: an array of `{token, type, url, source}`; further members are left out.

    Raises:
        Invalid: not of that form, or more than 1,000.
    """
    if not isinstance(message, list):
        raise Invalid("An array is needed.", field="body")
    if len(message) > MAX_FOUND:
        raise Invalid(f"At most {MAX_FOUND:,} at once.", field="body")
    return [_finding(one, number) for number, one in enumerate(message)]


def report(findings: Sequence[Finding], *, actor: Actor) -> list[Label]:
    """Stop every key whose secret was found, each in a transaction of its own, and return a label for each finding.

    What fails does not stop the rest, and is raised when all others are done: what the partner sends again then changes
    nothing about these.
    """
    held = possession.find([finding.token for finding in findings])
    failures: list[Exception] = []
    for finding in findings:
        if finding.token in held:
            try:
                _stop(held[finding.token], finding, actor)
            except Exception as error:
                log.exception("a leaked key could not be stopped", key=held[finding.token].key_id)
                failures.append(error)
    if failures:
        raise failures[0]
    return [_label(finding, is_ours=finding.token in held) for finding in findings]


def pattern() -> str:
    """Return the regular expression of this deployment's secrets, as partners and scanners take it."""
    kinds = "|".join(kind.segment for kind in secret.Kind)
    modes = "|".join(secret.Mode)
    length = secret.RANDOM_LENGTH + secret.CHECK_LENGTH
    return rf"\b{re.escape(settings.KEY_BRAND)}_(?:{kinds})_(?:{modes})_[0-9A-Za-z]{{{length}}}\b"


def _finding(one: Any, number: int) -> Finding:
    if not isinstance(one, dict):
        raise Invalid("An object is needed.", field=f"body[{number}]")
    found = {"url": "", **{name: value for name, value in one.items() if value is not None}}
    for name in ("token", "type", "url"):
        if not isinstance(found.get(name), str):
            raise Invalid("Text is needed.", field=f"body[{number}].{name}")
    if len(found["type"]) > MAX_TYPE or not found["type"].isprintable():
        raise Invalid(f"At most {MAX_TYPE} printable characters.", field=f"body[{number}].type")
    return Finding(token=found["token"], type=found["type"], url=found["url"])


def _stop(held: Held, finding: Finding, actor: Actor) -> None:
    with tenancy.within(held.organization_id):
        services.report_leak(held, actor=actor, url=finding.url)


def _label(finding: Finding, *, is_ours: bool) -> Label:
    digest = hashlib.sha256(finding.token.encode("utf-8", "surrogatepass")).digest()
    return Label(token_hash=base64.b64encode(digest).decode(), token_type=finding.type, is_ours=is_ours)
