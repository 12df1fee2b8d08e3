# ruff: noqa: ARG001 - the checks share one signature, and not each needs all of it
"""The verdict on a presented secret: one pure function over what SQL fetched. Spec KEYS §7.

The order of the checks is part of the interface: clients tell their users what the code says, and an earlier
code hides a later one. Everything that is not plainly allowed is refused.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Final

from keys.governance import Approval, free, governed
from keys.policy.networks import address_allowed
from keys.rotation import is_expired, is_retired
from keys.scopes import Has, Layers, Query, Risks, effective, holds, permits
from keys.secret import Mode
from orgs.roles import EVERY_RISK, Risk
from orgs.terms import Entitlement, is_entitled

SOON: Final = timedelta(days=7)


class Code(StrEnum):
    """Every code that a verification can answer, in the order of the checks after `VALID`."""

    VALID = "VALID"
    MALFORMED = "MALFORMED"
    NOT_FOUND = "NOT_FOUND"
    ORGANIZATION_SUSPENDED = "ORGANIZATION_SUSPENDED"
    REVOKED = "REVOKED"
    DISABLED = "DISABLED"
    EXPIRED = "EXPIRED"
    SECRET_RETIRED = "SECRET_RETIRED"  # noqa: S105 - a code, no password
    WRONG_ENVIRONMENT = "WRONG_ENVIRONMENT"
    WRONG_PROJECT = "WRONG_PROJECT"
    IP_NOT_ALLOWED = "IP_NOT_ALLOWED"
    INSUFFICIENT_SCOPE = "INSUFFICIENT_SCOPE"
    FORBIDDEN = "FORBIDDEN"
    NOT_ENTITLED = "NOT_ENTITLED"
    APPROVAL_REQUIRED = "APPROVAL_REQUIRED"
    RATE_LIMITED = "RATE_LIMITED"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"


@dataclass(slots=True, kw_only=True)
class Record:
    """What the database knows of one secret, its key and all that narrows it, read in one statement.

    Args:
        organization_id: the key's.
        is_organization_suspended: nothing of a suspended organization is valid.
        revoked_at: set once and for ever; a time ahead of our clock counts too.
        is_disabled: without end.
        disabled_until: for a while; beside `is_disabled`, not instead of it.
        version, expires_at, accepted_until: of the secret that was presented.
        newest_version: the version that the key goes by.
        environment: the slug of the key's environment; none is called `live` or `test`.
        mode: whether that environment is live or test.
        project_id: the key's project; the key serves it and all below it.
        networks: `allowed_ips`, canonical; empty for any address.
        scopes: what the key carries.
        layers: what each project on the path to the key's project allows; None where it narrows nothing.
        risks: the catalogue, scope to risk.
        ceiling: the risks of the owner's role at the key's project, empty when the owner has no role there;
            None only where no member owns the key.
        entitlements: what the organization has bought.
        is_bound: whether the key needs an approval for whatever may do more than read.
    """

    organization_id: str
    is_organization_suspended: bool
    revoked_at: datetime | None
    is_disabled: bool
    disabled_until: datetime | None
    version: int
    newest_version: int
    expires_at: datetime | None
    accepted_until: datetime | None
    environment: str
    mode: Mode
    project_id: str
    networks: Sequence[str]
    scopes: Collection[str]
    layers: Layers
    risks: Risks
    ceiling: frozenset[Risk] | None
    entitlements: Mapping[str, Entitlement] = field(default_factory=dict)
    is_bound: bool = False


@dataclass(slots=True, kw_only=True)
class Request:
    """What the verifier wants to know.

    Args:
        visible_organization_id: the only organization whose keys the verifier may see; None for the
            operator's verifier, which sees all. No default: forgetting it would show every tenant's keys.
        query: the scopes needed, or None.
        environment: a slug, `live` or `test`, or None for any.
        project_path: the ids of the requested project and all above it, empty for an unknown one; None for
            any.
        project_layers: what the projects of that path allow, as in `Record.layers`; repeating those is
            harmless.
        ip: the client's address, or None.
        entitlement: a feature that the key's organization must have bought, or None.
        approval: what the call's trace names, if it is an approval of this very key; None for anything else.
    """

    visible_organization_id: str | None
    query: Query | None = None
    environment: str | None = None
    project_path: Collection[str] | None = None
    project_layers: Layers = ()
    ip: str | None = None
    entitlement: str | None = None
    approval: Approval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The code; the scopes that count, when valid; those that were missing, when scopes were the fault.

    `approval` is the one that a valid call rests on: a use of it is spent when the call is counted.
    """

    code: Code
    scopes: tuple[str, ...] = ()
    missing_scopes: tuple[str, ...] = ()
    approval: Approval | None = None

    @property
    def is_valid(self) -> bool:
        """Tell whether the key may do what was asked."""
        return self.code is Code.VALID


MALFORMED: Final = Verdict(code=Code.MALFORMED)
NOT_FOUND: Final = Verdict(code=Code.NOT_FOUND)

type _Check = Callable[[Record, Request, datetime], Verdict | None]


def decide(record: Record | None, request: Request, now: datetime) -> Verdict:
    """Return the verdict: that of the first check that fails, or `VALID` with the effective scopes.

    The format is checked before anything is fetched (`secret.parse`, then `MALFORMED`). Counters are not
    asked
    here: whatever counts comes after, so that a refused call spends nothing.

    Args:
        record: of the presented secret; None if no secret has its digest.
        request: what the verifier asked.
        now: by the database's clock, the same that set the times of the record.
    """
    if record is None:
        return NOT_FOUND
    for check in _CHECKS:
        verdict = check(record, request, now)
        if verdict is not None:
            return verdict
    rests_on = request.approval if _governed(record, request) else None
    return Verdict(code=Code.VALID, scopes=_counting(record, request), approval=rests_on)


def is_disabled(*, without_end: bool, until: datetime | None, now: datetime) -> bool:
    """Tell whether a key is disabled: without end, or for a while that is not over."""
    return without_end or (until is not None and now < until)


def expires_soon(expires_at: datetime | None, now: datetime) -> bool:
    """Tell whether a secret expires within 7 days (or has)."""
    return expires_at is not None and expires_at - now <= SOON


def _known(record: Record, request: Request, now: datetime) -> Verdict | None:
    """Answer with the very verdict of an unknown secret where the verifier may not see the organization."""
    seen = request.visible_organization_id
    return None if seen is None or seen == record.organization_id else NOT_FOUND


def _organization(record: Record, request: Request, now: datetime) -> Verdict | None:
    return _refused(Code.ORGANIZATION_SUSPENDED) if record.is_organization_suspended else None


def _state(record: Record, request: Request, now: datetime) -> Verdict | None:
    if record.revoked_at is not None:
        return _refused(Code.REVOKED)
    if is_disabled(without_end=record.is_disabled, until=record.disabled_until, now=now):
        return _refused(Code.DISABLED)
    if is_expired(record.expires_at, now):
        return _refused(Code.EXPIRED)
    if is_retired(record.version, record.newest_version, record.accepted_until, now):
        return _refused(Code.SECRET_RETIRED)
    return None


def _environment(record: Record, request: Request, now: datetime) -> Verdict | None:
    """`live` and `test` are modes, never slugs: else a test environment called live would pass for it."""
    wanted = request.environment
    actual = record.mode if wanted in tuple(Mode) else record.environment
    return None if wanted is None or wanted == actual else _refused(Code.WRONG_ENVIRONMENT)


def _project(record: Record, request: Request, now: datetime) -> Verdict | None:
    path = request.project_path
    return None if path is None or record.project_id in path else _refused(Code.WRONG_PROJECT)


def _ip(record: Record, request: Request, now: datetime) -> Verdict | None:
    return None if address_allowed(record.networks, request.ip) else _refused(Code.IP_NOT_ALLOWED)


def _carried(record: Record, request: Request, now: datetime) -> Verdict | None:
    return _lacking(Code.INSUFFICIENT_SCOPE, request.query, partial(holds, record.scopes))


def _authorized(record: Record, request: Request, now: datetime) -> Verdict | None:
    """KEYS §4: the key authenticates, RBAC authorizes: what the key carries may be cut away."""
    return _lacking(Code.FORBIDDEN, request.query, lambda scope: _permits(scope, record, request))


def _entitled(record: Record, request: Request, now: datetime) -> Verdict | None:
    wanted = request.entitlement
    has = wanted is None or is_entitled(record.entitlements.get(wanted))
    return None if has else _refused(Code.NOT_ENTITLED)


def _approved(record: Record, request: Request, now: datetime) -> Verdict | None:
    """Every scope that a query names counts, whichever of its alternatives the key would meet: nobody picks later."""
    needed = _governed(record, request)
    if not needed or (request.approval is not None and request.approval.permits(needed, now)):
        return None
    return _refused(Code.APPROVAL_REQUIRED)


# The approval's uses, rate limit and quota follow, in this order (KEYS §7): those are counted (`keys.limits`).
_CHECKS: Final[tuple[_Check, ...]] = (
    _known,
    _organization,
    _state,
    _environment,
    _project,
    _ip,
    _carried,
    _authorized,
    _entitled,
    _approved,
)


def _governed(record: Record, request: Request) -> tuple[str, ...]:
    """Return the scopes of the call that a bound key needs an approval for."""
    if not record.is_bound or request.query is None:
        return ()
    return governed(request.query.scopes, record.risks)


def _lacking(code: Code, query: Query | None, has: Has) -> Verdict | None:
    if query is None or query.satisfied_by(has):
        return None
    return Verdict(code=code, missing_scopes=query.missing(has))


def _permits(scope: str, record: Record, request: Request) -> bool:
    return permits(scope, record.scopes, _layers(record, request), record.risks, _allowed(record))


def _counting(record: Record, request: Request) -> tuple[str, ...]:
    """Return the scopes that count in a valid call: of a bound key what needs no approval or was approved.

    Else whoever goes by the list in the answer, instead of asking, would let a bound key do what nobody approved.
    """
    found = effective(record.scopes, _layers(record, request), record.risks, _allowed(record))
    if not record.is_bound:
        return found
    approved = (scope for scope in _governed(record, request) if _permits(scope, record, request))
    return tuple(sorted({*free(found, record.risks), *approved}))


def _layers(record: Record, request: Request) -> Layers:
    return (*record.layers, *request.project_layers)


def _allowed(record: Record) -> frozenset[Risk]:
    return EVERY_RISK if record.ceiling is None else record.ceiling


def _refused(code: Code) -> Verdict:
    return Verdict(code=code)
