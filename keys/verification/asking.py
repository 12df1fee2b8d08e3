"""What is asked of verification, and what it answers.

Structs of msgspec rather than frozen dataclasses: a dozen are made for each call, at a tenth of the cost.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from types import MappingProxyType
from typing import Final

from django.conf import settings
from msgspec import Struct

from keys import limits, peppers, verdict
from keys import secret as secrets
from keys.errors import Malformed
from keys.scopes import Query
from keys.verification.records import Known

MAX_RECENT: Final = 512
NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Credential:
    """A presented secret as it travels through here: its digests under every valid pepper, never the text.

    No digest: it was malformed and is never looked up.
    """

    digests: tuple[bytes, ...]

    @property
    def is_malformed(self) -> bool:
        """Whether it has not the form of a secret of ours."""
        return not self.digests


def credential(text: str) -> Credential:
    """Return what a presented text is looked up by."""
    try:
        secrets.parse(text, settings.KEY_BRAND)
    except Malformed:
        return NO_CREDENTIAL
    return Credential(tuple(peppers.digests(text)))


NO_CREDENTIAL: Final = Credential(())


class Recent:
    """Credentials of those who call again and again, the verifiers, so that each is worked out once.

    Kept under a keyed hash whose key dies with the process: no secret stays in memory for it.
    """

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._peppers: object = None
        self._found: dict[bytes, Credential] = {}

    def credential(self, text: str) -> Credential:
        """Return what a presented text is looked up by, as `credential` does."""
        if self._peppers is not settings.KEY_PEPPERS or len(self._found) >= MAX_RECENT:
            self._peppers = settings.KEY_PEPPERS
            self._found = {}
        mark = blake2b(text.encode("utf-8", "surrogatepass"), key=self._key, digest_size=32).digest()
        found = self._found.get(mark)
        if found is None:
            found = self._found[mark] = credential(text)
        return found


recent: Final = Recent()


class Ask(Struct, frozen=True, kw_only=True):
    """What a verifier wants to know of a presented secret; every field is bounded before it comes here.

    `cost` 0 looks without leaving evidence of use. `endpoint` and what follows are for the record of the call;
    `is_recorded` false is for questions that are no verification.
    """

    query: Query | None = None
    environment: str | None = None
    project: str | None = None
    entitlement: str | None = None
    ip: str | None = None
    cost: int = 1
    endpoint: str = ""
    region: str = ""
    user_agent: str = ""
    request_id: str = ""
    trace: Mapping[str, str] = NOTHING
    is_recorded: bool = True


class Own(Struct, frozen=True, kw_only=True):
    """A key that calls the API itself: where from, the scope that its call needs, and what the call spends.

    `cost` counts against the key's rate limit alone; 0 spends nothing (KEYS §7: a verifier's own key).
    """

    ip: str | None
    scope: str = ""
    cost: int = 0


class Call(Struct, frozen=True, kw_only=True):
    """One call: who asks with which secret, and, of a verifier, about which other secret.

    Where `verifier` is None, the product itself asks (its pages, a test), on behalf of `organization_id`; None there is
    the operator's view of all.
    """

    verifier: Credential | None
    own: Own | None = None
    organization_id: str | None = None
    presented: Credential | None = None
    ask: Ask | None = None

    @property
    def digests(self) -> tuple[bytes, ...]:
        """All that the call has to be looked up by."""
        both = (self.verifier, self.presented)
        return tuple(digest for each in both if each is not None for digest in each.digests)


class Judged(Struct, frozen=True):
    """A verdict and, of the key that it is about, what the database had at that moment (None: not to be told)."""

    verdict: verdict.Verdict
    known: Known | None
    counted: limits.Counted = limits.UNCOUNTED


class Answer(Struct, frozen=True):
    """What became of a call: the verdict on the verifier's own key, and, if that is valid, on the presented one."""

    verifier: Judged | None
    presented: Judged | None
