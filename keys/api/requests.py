"""What goes in, exactly as spec API has it: unknown fields are refused, types are never coerced.

Features of later issues take nothing but their neutral value.
"""

from ipaddress import IPv6Address, ip_address
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from keys.api.times import Time
from keys.policy.expiry import MAX_DAYS
from keys.policy.networks import MAX_NETWORKS
from keys.reported import Used
from keys.rotation import MAX_GRACE_SECONDS, MAX_QUIET_SECONDS, MAX_TARGETS
from keys.scopes import MAX_QUERY, MAX_SCOPES
from orgs.terms import MAX_REQUESTS, MAX_WINDOW_SECONDS

MAX_TEXT: Final = 4_096
MAX_ID: Final = 32
MAX_SLUG: Final = 63
MAX_COST: Final = 1_000_000
MAX_VERSION: Final = 2_147_483_647
MAX_USES: Final = 1_000
# Of one reported item; PostgreSQL's largest integer at most.
MAX_CALLS: Final = 1_000_000_000
MAX_COSTS: Final = 2_000_000_000
# PostgreSQL has no NUL in text; every other bound is `keys.policy`'s.
NO_NUL: Final = r"^[^\x00]*$"
_LATER: Final = "Not available yet."
_AUTO: Final = "Rotates by itself before its interval is over; needs `rotation_interval_days`."
# Names of branches that no field of a request has.
OWN_LIMIT: Final = "own limit"
NAMED_LIMIT: Final = "named limit"

Reason = Literal["leaked", "unused", "rotated_out", "owner_left", "incident", "other"]
KindName = Literal["ingestion", "control_plane", "service"]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Id = Annotated[str, Field(max_length=MAX_ID, pattern=NO_NUL)]
Slug = Annotated[str, Field(max_length=MAX_SLUG, pattern=NO_NUL)]


def _at_most(limit: int) -> AfterValidator:
    def check(text: str) -> str:
        if len(text.encode()) > limit:
            raise ValueError(f"At most {limit} bytes.")
        return text

    return AfterValidator(check)


Bytes64 = Annotated[str, Field(max_length=64, pattern=NO_NUL), _at_most(64)]


class Strict(BaseModel):
    """A request: no field but those that are named, no type but theirs."""

    model_config = ConfigDict(extra="forbid", strict=True)

    def has(self, name: str) -> bool:
        """Tell whether a field was sent: absent and null differ where null has a meaning of its own."""
        return name in self.model_fields_set


class OwnerMember(Strict):
    """A member of the organization."""

    type: Literal["member"]
    id: Id


class OwnerTeam(Strict):
    """A team, by its name."""

    type: Literal["team"]
    name: Text = Field(min_length=1)


OwnerChoice = Annotated[OwnerMember | OwnerTeam, Field(discriminator="type")]


class OwnLimit(Strict):
    """A rate limit of the key's own."""

    requests: int = Field(ge=0, le=MAX_REQUESTS, description="How much may pass; 0 lets nothing through.")
    window_seconds: int = Field(ge=1, le=MAX_WINDOW_SECONDS, description="In any so many seconds.")


class TierOfKey(Strict):
    """A tier that the operator has named."""

    tier: Slug


def _sort_of_limit(value: Any) -> str:
    has_tier = isinstance(value, TierOfKey) or (isinstance(value, dict) and "tier" in value)
    return NAMED_LIMIT if has_tier else OWN_LIMIT


LimitChoice = Annotated[
    Annotated[OwnLimit, Tag(OWN_LIMIT)] | Annotated[TierOfKey, Tag(NAMED_LIMIT)],
    Discriminator(_sort_of_limit),
]


class KeyDraft(Strict):
    """A key to create."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "noc-production",
                    "kind": "control_plane",
                    "environment": "production",
                    "scopes": ["incidents:read"],
                    "tags": {"team": "noc"},
                    "expires_in_days": 30,
                }
            ]
        }
    )

    name: Text = Field(description="`[a-z0-9][a-z0-9-]{1,62}`, unique among the environment's keys in use.")
    kind: KindName
    environment: Slug = Field(description="The environment's slug.")
    scopes: list[Text] = Field(max_length=MAX_SCOPES, description="1 to 64 scopes of the catalogue.")
    project: Id | None = Field(
        default=None,
        description="Default: the root, or your key's own project where it does not reach the root.",
    )
    description: Text = Field(default="", description="At most 1,000 bytes.")
    owner: OwnerChoice | None = None
    tags: dict[str, Text] = Field(
        default_factory=dict, description="At most 20: `[a-z0-9_-]{1,32}` to 64 bytes."
    )
    allowed_ips: list[Text] | None = Field(
        default=None,
        max_length=MAX_NETWORKS,
        description="CIDRs; empty for any address. Default: your key's own.",
    )
    rate_limit: LimitChoice | None = Field(
        default=None,
        description="At most the plan's; null inherits it. Absent: the plan's, cut to your key's own.",
    )
    rotation_interval_days: int | None = Field(default=None, ge=1, le=MAX_DAYS)
    auto_rotate: bool = Field(default=False, description=_AUTO)
    may_rotate_itself: bool = True
    approval_bound: bool = Field(
        default=False,
        description="Of a service key, for good: scopes of risk write or admin then need an approval each time. "
        "The organization's policy may require it of new service keys.",
    )
    expires_at: Time | None = Field(
        default=None, description="Absent: as the policy says; null: never, where the policy allows it."
    )
    expires_in_days: int | None = Field(
        default=None, ge=1, le=MAX_DAYS, description="Instead of `expires_at`."
    )
    organization: Id | None = Field(
        default=None, description="For keys of the operator's organization alone."
    )


class KeyChanges(Strict):
    """What is to become of a key; what is left out stays as it is."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"description": "For the night shift", "tags": {"team": "noc"}}]}
    )

    name: Text = Field(default_factory=str)
    description: Text = Field(default_factory=str)
    owner: OwnerChoice | None = Field(default=None, description="null: nobody.")
    tags: dict[str, Text] = Field(default_factory=dict)
    scopes: list[Text] = Field(default_factory=list, max_length=MAX_SCOPES)
    expires_at: Time | None = Field(default=None, description="null: never, where the policy allows it.")
    allowed_ips: list[Text] = Field(default_factory=list, max_length=MAX_NETWORKS)
    rate_limit: LimitChoice | None = Field(
        default=None, description="At most the plan's; null: what the plan says."
    )
    enabled: bool = Field(default_factory=bool)
    disabled_until: Time | None = Field(default=None, description="Disabled until then; null: no longer.")
    rotation_interval_days: int | None = Field(default=None, ge=1, le=MAX_DAYS)
    auto_rotate: bool = Field(default_factory=bool, description=_AUTO)
    may_rotate_itself: bool = Field(default_factory=bool)


class Revocation(Strict):
    """Why a key is revoked."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"reason": "leaked", "note": "In a build log"}]}
    )

    reason: Reason = "other"
    note: Text = Field(default="", description="At most 1,000 bytes; sealed in the security log.")


class RotationRequest(Strict):
    """How to rotate."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"mode": "grace", "grace_seconds": 3600}]})

    mode: Literal["grace", "staged", "immediate"] = "grace"
    version: int | None = Field(
        default=None,
        ge=1,
        le=MAX_VERSION,
        description="The newest version that you know; another answers 409.",
    )
    grace_seconds: int | None = Field(
        default=None, ge=1, le=MAX_GRACE_SECONDS, description="With `grace` alone; 86,400 unless told."
    )
    targets: list[Bytes64] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_TARGETS,
        description="With `staged` alone, and there needed: the regions that must move.",
    )
    quiet_seconds: int | None = Field(
        default=None,
        ge=1,
        le=MAX_QUIET_SECONDS,
        description="With `staged` alone: for how long the old secret must not be used; 600 unless told.",
    )
    deadline: Time | None = Field(
        default=None,
        description="With `staged` alone: overdue from then on; at most 30 days ahead, 7 unless told.",
    )


class SelfRotationRequest(RotationRequest):
    """How to rotate the very key that asks, or another one."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"version": 1}]})

    key_id: Id | None = Field(
        default=None, description="Another key's id; this needs the scope `keys:rotate`."
    )


def _address(text: str) -> str:
    try:
        address = None if "%" in text else ip_address(text)
    except ValueError:
        address = None
    if address is None:
        raise ValueError("An IPv4 or IPv6 address is needed.")
    # What some sockets call an IPv4 caller: it is of that one's network, not of the one that all such share.
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


Bytes128 = Annotated[str, Field(max_length=128, pattern=NO_NUL), _at_most(128)]
Bytes256 = Annotated[str, Field(max_length=256, pattern=NO_NUL), _at_most(256)]
Address = Annotated[str, Field(max_length=45), AfterValidator(_address)]
Entitlement = Annotated[str, Field(min_length=1, max_length=MAX_SLUG, pattern=NO_NUL)]
ScopeList = Annotated[list[Text], Field(max_length=MAX_SCOPES)]
ScopeQuery = Annotated[str, Field(max_length=MAX_QUERY)]


class Trace(Strict):
    """What the call belongs to, for whoever reads its record."""

    incident: Bytes128 | None = None
    approval: Bytes128 | None = None
    execution: Bytes128 | None = None


class VerifyRequest(Strict):
    """A presented secret, and what it should be good for; only `secret` is required."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "secret": "the secret that a client presented",
                    "scopes": ["incidents:read"],
                    "ip": "203.0.113.7",
                    "endpoint": "GET /v1/incidents",
                }
            ]
        }
    )

    secret: Text
    scopes: ScopeList | ScopeQuery | None = Field(
        default=None, description="All of a list, or a query such as `a:read AND (b:read OR b:*)`."
    )
    environment: Slug | None = Field(default=None, description="A slug, or `live` or `test`.")
    project: Id | None = None
    entitlement: Entitlement | None = Field(
        default=None, description="A feature that the key's organization must have bought."
    )
    ip: Address | None = Field(default=None, description="The client's address.")
    endpoint: Bytes256 | None = None
    region: Bytes64 | None = None
    user_agent: Bytes256 | None = None
    cost: int = Field(default=1, ge=0, le=MAX_COST, description="0 looks without spending anything.")
    request_id: Bytes128 | None = None
    trace: Trace | None = None


class UsedIn(Strict):
    """Like calls that kept verdicts answered: how many, and what they cost in all."""

    key: Id
    secret_version: int = Field(ge=1, le=MAX_VERSION)
    at: Time = Field(description="Of the first; taken as at most an hour ago.")
    calls: int = Field(ge=1, le=MAX_CALLS)
    cost: int = Field(ge=0, le=MAX_COSTS)
    endpoint: Bytes256 | None = None
    region: Bytes64 | None = None
    ip: Address | None = None
    user_agent: Bytes256 | None = None


class UsageReportRequest(Strict):
    """A batch of uses. Its name makes it count once, however often it is sent."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "batch": "3f0b7c1e-5a52-4c0e-9a0f-2f6f1f3f9d11",
                    "calls": [
                        {
                            "key": "key_aaaaaaaaaaaaaaaaaaaa",
                            "secret_version": 1,
                            "at": "2027-01-31T12:00:00Z",
                            "calls": 120,
                            "cost": 120,
                            "endpoint": "GET /v1/incidents",
                        }
                    ],
                }
            ]
        }
    )

    batch: str = Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$", description="A name that you never use again.")
    calls: list[UsedIn] = Field(min_length=1, max_length=MAX_USES)

    def uses(self) -> list[Used]:
        """Return what is to be recorded."""
        return [
            Used(
                key_id=item.key,
                version=item.secret_version,
                at=item.at,
                calls=item.calls,
                cost=item.cost,
                endpoint=item.endpoint or "",
                region=item.region or "",
                ip=item.ip,
                user_agent=item.user_agent or "",
            )
            for item in self.calls
        ]
