"""What comes out, exactly as spec API has it; features of later issues have their neutral value."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from keys.api.times import Moment
from keys.models.key import RevocationReason, Status
from keys.policy import Source
from keys.rotation import Mode, State, TargetState
from keys.secret import Kind
from keys.verdict import Code
from orgs.roles import Risk


class Answer(BaseModel):
    """An answer: each member is always there."""

    model_config = ConfigDict(extra="forbid")


class MemberOut(Answer):
    """A member as an owner."""

    type: Literal["member"]
    id: str
    name: str


class TeamOut(Answer):
    """A team as an owner; an empty name where nobody is named."""

    type: Literal["team"]
    name: str


OwnerOut = MemberOut | TeamOut


class SecretOut(Answer):
    """One version of a key's secret: the newest, and what is still accepted beside it."""

    version: int
    hint: str
    created_at: Moment
    expires_at: Moment | None
    accepted_until: Moment | None
    last_used_at: Moment | None


class TargetOut(Answer):
    """A target of a staged rotation; `moved` once the new secret was seen there and the old one was quiet."""

    name: str
    state: TargetState
    old_last_used_at: Moment | None
    new_last_used_at: Moment | None
    old_calls_1h: int
    new_calls_1h: int


class ElsewhereOut(Answer):
    """Use of the old secret outside any target."""

    old_last_used_at: Moment | None
    old_calls_1h: int


class SealedOut(Answer):
    """The new secret, sealed to a public key that the organization registered."""

    recipient: str
    ciphertext: str


class RotationOut(Answer):
    """A rotation."""

    id: str
    key: str
    mode: Mode
    status: State
    overdue: bool
    old_version: int
    new_version: int
    started_at: Moment
    started_by: str
    grace_ends_at: Moment | None = Field(
        description="When the old secret stops by itself, whatever its targets do; null where it does not."
    )
    quiet_seconds: int | None
    deadline: Moment | None
    completed_at: Moment | None
    targets: list[TargetOut]
    elsewhere: ElsewhereOut
    sealed_secret: SealedOut | None = Field(
        default=None, description="While the server still has it, of a key that rotates by itself."
    )


class KeyLimitOut(Answer):
    """The rate limit that holds for a key: `requests` in any `window_seconds`, and whence it comes."""

    requests: int
    window_seconds: int
    source: Source
    tier: str = Field(default="", description="Where `source` is `tier`.")


class KeyOut(Answer):
    """A key. Its secret is never in it."""

    id: str
    name: str
    kind: Kind
    status: Status
    hint: str
    organization: str
    project: str
    environment: str
    owner: OwnerOut
    description: str
    tags: dict[str, str]
    scopes: list[str]
    allowed_ips: list[str]
    rate_limit: KeyLimitOut | None
    expires_at: Moment | None
    created_at: Moment
    created_by: str
    updated_at: Moment
    disabled_until: Moment | None
    last_used_at: Moment | None
    last_used_ip: str | None
    rotation_interval_days: int | None
    auto_rotate: bool
    may_rotate_itself: bool
    approval_bound: bool
    secrets: list[SecretOut]
    rotation: RotationOut | None
    revoked_at: Moment | None
    revoked_by: str | None
    revocation_reason: RevocationReason | None


class Shown(Answer):
    """An answer that shows a secret once; sent again for its Idempotency-Key, `secret` is null."""

    secret: str | None
    secret_status: Literal["already_shown"] = Field(
        default="already_shown", description="Where `secret` is null."
    )


class CreatedOut(Shown):
    """A new key, and its secret, shown this once."""

    key: KeyOut


class RotatedOut(Shown):
    """A rotation, and the new secret, shown this once."""

    rotation: RotationOut
    key: KeyOut


class PageOut[Item](Answer):
    """A page of a list; `next_cursor` is null on the last one."""

    data: list[Item]
    next_cursor: str | None


class KeysOut(PageOut[KeyOut]):
    """A page of keys."""


class ProjectOut(Answer):
    """A project that your key reaches; `scopes` narrows its keys, null does not."""

    id: str
    name: str
    parent: str | None
    scopes: list[str] | None


class ProjectsOut(PageOut[ProjectOut]):
    """A page of projects, each before what lies below it."""


class EnvironmentOut(Answer):
    """An environment; keys are created with its slug."""

    id: str
    slug: str
    name: str
    mode: Literal["live", "test"]
    is_production: bool


class EnvironmentsOut(PageOut[EnvironmentOut]):
    """A page of environments."""


class ScopeOut(Answer):
    """A scope of the catalogue, and the kinds of key that may carry it."""

    name: str
    description: str
    risk: Risk
    kinds: list[Kind]
    is_deprecated: bool


class ScopesOut(PageOut[ScopeOut]):
    """A page of the catalogue."""


class OrganizationOut(Answer):
    """An organization."""

    id: str
    slug: str
    name: str


class MeOut(Answer):
    """The key that asks: `scopes` are those that count now; version and times are those of the secret that you sent."""

    id: str
    name: str
    kind: Kind
    organization: OrganizationOut
    is_operator: bool
    project: str
    environment: str
    scopes: list[str]
    secret_version: int
    retiring: bool
    secret_created_at: Moment
    expires_at: Moment | None
    accepted_until: Moment | None
    rotation_interval_days: int | None
    allowed_ips: list[str]
    rate_limit: KeyLimitOut | None


class VerifiedKeyOut(Answer):
    """The key of a verified secret."""

    id: str
    name: str
    kind: Kind
    expires_at: Moment | None
    expires_soon: bool
    owner: OwnerOut
    tags: dict[str, str]
    secret_version: int
    retiring: bool
    accepted_until: Moment | None


class PlanOut(Answer):
    """What an organization has bought."""

    slug: str
    name: str


class StandingOut(Answer):
    """Where a key stands with its rate limit; `retry_after_seconds`: 0 unless refused, null where waiting is no use."""

    limit: int
    remaining: int
    window_seconds: int
    reset_seconds: int
    retry_after_seconds: int | None


class QuotaOut(Answer):
    """A monthly quota: the organization's or the key's tier's, whichever has less left."""

    limit: int
    used: int
    period_ends_at: Moment


class EntitlementOut(Answer):
    """Whether a key may use a feature; `value` is null where its organization has not bought it."""

    allowed: bool
    value: bool | int | float | None
    plan: PlanOut


class UsedApprovalOut(Answer):
    """The approval that a valid call of a bound key rests on: compare it with what you are about to do."""

    id: str
    scope: str
    resource: str
    parameters_digest: str
    uses_left: int
    valid_until: Moment


class VerdictOut(Answer):
    """What was decided on a known key; clients must tolerate new codes."""

    valid: bool
    code: Code
    request_id: str
    key: VerifiedKeyOut
    organization: OrganizationOut
    plan: PlanOut
    project: str
    environment: str
    scopes: list[str]
    missing_scopes: list[str]
    entitlements: dict[str, bool | int | float]
    rate_limit: StandingOut | None
    quota: QuotaOut | None
    approval: UsedApprovalOut | None


class UnknownOut(Answer):
    """No key, or none that you may know of."""

    valid: Literal[False]
    code: Literal[Code.MALFORMED, Code.NOT_FOUND]
    request_id: str


class FieldErrorOut(Answer):
    """One error of a request."""

    location: str
    message: str


class ProblemOut(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldErrorOut] = Field(default_factory=list, description="On 422.")
    rotation: str = Field(default="", description="On 409 `rotation_running`: the running one's id.")
