"""What the portal answers, as values that can't be changed. Times are in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Protocol, TypeVar

from keystead.errors import REFUSALS, InvalidKey, SecretAlreadyShown
from keystead.governance import digest
from keystead.secret import Secret

VALID = "VALID"


@dataclass(frozen=True)
class Owner:
    """Who answers for a key: a member (with `id`) or a team."""

    type: str
    name: str
    id: str = ""


@dataclass(frozen=True)
class Organization:
    """A customer."""

    id: str
    slug: str
    name: str


@dataclass(frozen=True)
class Plan:
    """What an organization has bought."""

    slug: str
    name: str


@dataclass(frozen=True)
class RateLimit:
    """A key's limit as one verification left it.

    Args:
        limit: units of cost in any window of `window_seconds`.
        remaining: how many are left now.
        reset_seconds: until the window begins anew.
        retry_after_seconds: how long to hold back; None where waiting won't help.
    """

    limit: int
    remaining: int
    window_seconds: int
    reset_seconds: float
    retry_after_seconds: float | None = None


@dataclass(frozen=True)
class Quota:
    """What a calendar month (UTC) allows, and what of it is spent."""

    limit: int
    used: int
    period_ends_at: datetime

    def seconds_left(self) -> float:
        """Return how long the period still lasts, by this machine's clock."""
        return max(0.0, (self.period_ends_at - datetime.now(timezone.utc)).total_seconds())


@dataclass(frozen=True)
class UsedApproval:
    """The approval that a verification rests on; a use of it is spent. See `parameters_digest` before you act.

    Args:
        scope, resource: what a person granted, and on what.
        parameters_digest: of what was planned: compare it with `governance.digest` of what you are told to do.
        uses_left: after this one.
    """

    id: str
    scope: str
    parameters_digest: str
    resource: str = ""
    uses_left: int = 0
    valid_until: datetime | None = None

    def is_for(self, parameters: Any) -> bool:
        """Tell whether it was granted for exactly these parameters."""
        return self.parameters_digest == digest(parameters)


@dataclass(frozen=True)
class VerifiedKey:
    """The key of a verified secret, as the answer has it."""

    id: str
    name: str
    kind: str
    owner: Owner
    secret_version: int
    expires_at: datetime | None = None
    expires_soon: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    retiring: bool = False
    accepted_until: datetime | None = None


@dataclass(frozen=True)
class KeyInfo:
    """A verified key, and all that a service needs to serve it.

    Args:
        scopes: those that count now, after the projects and the owner's role.
        secret_version: which of the key's secrets was presented; `retiring` where there is a newer one.
        accepted_until: when a retiring secret ends.
        entitlements: what the organization has bought, feature to boolean or number.
        rate_limit, quota: as this call left them; None where there is none.
        request_id: of the verification.
        approval: what an approval-bound key's call rests on; None where it needs none.
    """

    id: str
    name: str
    kind: str
    owner: Owner
    organization: Organization
    plan: Plan
    project: str
    environment: str
    scopes: tuple[str, ...]
    entitlements: Mapping[str, Any]
    tags: Mapping[str, str]
    secret_version: int
    retiring: bool
    expires_at: datetime | None
    expires_soon: bool
    accepted_until: datetime | None
    rate_limit: RateLimit | None
    quota: Quota | None
    request_id: str
    approval: UsedApproval | None = None

    def has_scope(self, wanted: str) -> bool:
        """Tell whether the key may do what the scope stands for (KEYS §3).

        `incidents:*` covers every action of incidents; `incidents:*` itself is covered by nothing else. No other
        star means anything.
        """
        resource, colon, action = wanted.partition(":")
        if not (resource and colon and action):
            return False
        return wanted in self.scopes or f"{resource}:*" in self.scopes

    def has_scopes(self, *wanted: str) -> bool:
        """Tell whether the key has every one of these scopes."""
        return all(map(self.has_scope, wanted))

    def entitlement(self, name: str) -> Any:
        """Return what the organization has bought of a feature: a boolean or a number, None where nothing."""
        return self.entitlements.get(name)


@dataclass(frozen=True)
class Verdict:
    """What the portal decided on a presented secret. True where it is valid, and only there.

    Args:
        code: KEYS §7's; may be one that this version does not know.
        key: of a key that the verifier may know of, valid or not.
        missing_scopes: what would help, with INSUFFICIENT_SCOPE.
    """

    valid: bool
    code: str
    request_id: str = ""
    key: KeyInfo | None = None
    missing_scopes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether the key is good for what was asked."""
        return self.valid

    def key_or_raise(self) -> KeyInfo:
        """Return the key that is good for what was asked.

        Raises:
            Refused: it is not: the subclass that the code stands for, InvalidKey for a code that is not known.
        """
        if self.valid and self.code == VALID and self.key is not None:
            return self.key
        raise REFUSALS.get(self.code, InvalidKey)(self)


@dataclass(frozen=True)
class KeyRateLimit:
    """What limits a key, and where that comes from: `key`, `tier` (named) or `plan`."""

    requests: int
    window_seconds: int
    source: str = ""
    tier: str = ""


@dataclass(frozen=True)
class SecretVersion:
    """One of a key's secrets that is still accepted; never the secret."""

    version: int
    hint: str
    created_at: datetime
    expires_at: datetime | None = None
    accepted_until: datetime | None = None
    last_used_at: datetime | None = None


@dataclass(frozen=True)
class RotationTarget:
    """A place that a staged rotation moves: `waiting`, `moving`, or `moved` to the new secret."""

    name: str
    state: str
    old_last_used_at: datetime | None = None
    new_last_used_at: datetime | None = None
    old_calls_1h: int | None = None
    new_calls_1h: int | None = None


@dataclass(frozen=True)
class RotationElsewhere:
    """Where else the old secret was used, outside every target."""

    old_last_used_at: datetime | None = None
    old_calls_1h: int | None = None


@dataclass(frozen=True)
class SealedSecret:
    """A new secret that only the holder of the recipient's private key can open: `keystead.sealed.open_sealed`."""

    recipient: str
    ciphertext: str = field(repr=False)


@dataclass(frozen=True)
class Rotation:
    """A rotation of a key.

    Args:
        status: `running`, `completed`, `cancelled` or `superseded`.
        overdue: its deadline has passed and something has not moved.
        grace_ends_at: when the old secret ends by itself; None where a staged rotation waits for its targets.
        elsewhere: the old secret's use outside the targets.
        sealed_secret: the new secret, sealed, of an automatic rotation until it was fetched.
    """

    id: str
    key: str
    mode: str
    status: str
    old_version: int
    new_version: int
    started_at: datetime
    started_by: str
    overdue: bool = False
    grace_ends_at: datetime | None = None
    quiet_seconds: int | None = None
    deadline: datetime | None = None
    completed_at: datetime | None = None
    targets: tuple[RotationTarget, ...] = ()
    elsewhere: RotationElsewhere | None = None
    sealed_secret: SealedSecret | None = None

    @property
    def is_running(self) -> bool:
        """Tell whether two secrets are accepted."""
        return self.status == "running"


@dataclass(frozen=True)
class Key:
    """A key; never its secret. `hint` is how it is spoken of, `ks_cp_live_AbCd…`."""

    id: str
    name: str
    kind: str
    status: str
    hint: str
    organization: str
    project: str
    environment: str
    owner: Owner
    created_at: datetime
    created_by: str
    scopes: tuple[str, ...] = ()
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    allowed_ips: tuple[str, ...] = ()
    rate_limit: KeyRateLimit | None = None
    expires_at: datetime | None = None
    updated_at: datetime | None = None
    disabled_until: datetime | None = None
    last_used_at: datetime | None = None
    last_used_ip: str | None = None
    rotation_interval_days: int | None = None
    auto_rotate: bool = False
    may_rotate_itself: bool = True
    approval_bound: bool = False
    secrets: tuple[SecretVersion, ...] = ()
    rotation: Rotation | None = None
    revoked_at: datetime | None = None
    revoked_by: str | None = None
    revocation_reason: str | None = None


@dataclass(frozen=True)
class CreatedKey:
    """A new key, and its secret: shown this once, kept nowhere.

    Args:
        secret_status: `shown`, or `already_shown` where an earlier request with the same Idempotency-Key made the
            key and had the secret.
    """

    key: Key
    shown: Secret | None = field(default=None, repr=False, metadata={"name": "secret"})
    secret_status: str = "shown"  # noqa: S105

    @property
    def secret(self) -> Secret:
        """Return the secret.

        Raises:
            SecretAlreadyShown: an earlier answer had it.
        """
        if self.shown is None:
            raise SecretAlreadyShown(self.key.id)
        return self.shown


@dataclass(frozen=True)
class RotatedKey(CreatedKey):
    """A rotated key, and its new secret: shown this once, kept nowhere."""

    rotation: Rotation | None = None


T_co = TypeVar("T_co", covariant=True)


class AnyPage(Protocol[T_co]):
    """A page of something, and the cursor of the next; None after the last."""

    @property
    def data(self) -> tuple[T_co, ...]:
        """Return what is on it."""
        ...

    @property
    def next_cursor(self) -> str | None:
        """Return where the next begins."""
        ...


@dataclass(frozen=True)
class Page:
    """A page of keys, and the cursor of the next."""

    data: tuple[Key, ...]
    next_cursor: str | None = None


@dataclass(frozen=True)
class Me:
    """The client's own key; `scopes` are those that count now.

    Args:
        secret_version: of the secret that was sent; `retiring` where the key has a newer one.
        expires_at: when that secret ends, `accepted_until` where it was replaced.
        secret_created_at, rotation_interval_days: what a schedule needs; None where the portal does not say.
    """

    id: str
    name: str
    kind: str
    organization: Organization
    is_operator: bool
    project: str
    environment: str
    scopes: tuple[str, ...]
    secret_version: int
    retiring: bool = False
    expires_at: datetime | None = None
    allowed_ips: tuple[str, ...] = ()
    rate_limit: KeyRateLimit | None = None
    accepted_until: datetime | None = None
    secret_created_at: datetime | None = None
    rotation_interval_days: int | None = None


@dataclass(frozen=True)
class EntitlementCheck:
    """Whether a key's organization has bought something. True where it has, and only there."""

    allowed: bool
    value: Any = None
    plan: Any = None

    def __bool__(self) -> bool:
        """Tell whether it is allowed."""
        return self.allowed
