"""Nobody grants more than they hold (KEYS §3): what a caller may put on a key of their making.

Rotation is among them because it hands out the secret. An explicit excess is refused; a default is cut to
what the creator may give, so that a short-lived, IP-bound key does not have to repeat its own bounds.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from keys.errors import ExceedsGrant
from keys.policy.expiry import ABSENT, Absent, ExpiryRule, Requested, expires_at
from keys.policy.limits import Given, allowance, limit_is_within
from keys.policy.networks import networks_within
from keys.scopes import BREAK_GLASS, Risks, allows, covers, holds
from keys.secret import Mode
from orgs.roles import EVERY_RISK, Risk
from orgs.terms import RateLimit


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The most that a caller may give. Made by `of_person` or `of_key`, so that no bound is forgotten.

    None, and empty networks, mean that there is no bound of that sort.
    """

    scopes: frozenset[str] | None
    risks: frozenset[Risk]
    may_break_glass: bool
    project_id: str | None
    mode: Mode | None
    networks: tuple[str, ...]
    expires_at: datetime | None
    limit: Given
    exceeds_plan: bool

    @classmethod
    def of_person(
        cls, risks: frozenset[Risk], *, may_break_glass: bool = False, exceeds_plan: bool = False
    ) -> Self:
        """Return the bounds of a person: their role's `grantable` risks **at the key's project**.

        `may_break_glass` is for an owner who has just stepped up, and for nobody else. `exceeds_plan` is for those who
        sell the plans.
        """
        return cls(
            scopes=None,
            risks=risks,
            may_break_glass=may_break_glass,
            project_id=None,
            mode=None,
            networks=(),
            expires_at=None,
            limit=None,
            exceeds_plan=exceeds_plan,
        )

    @classmethod
    def of_key(
        cls,
        *,
        scopes: Collection[str],
        project_id: str | None,
        mode: Mode,
        networks: tuple[str, ...],
        expires_at: datetime | None,
        limit: Given,
    ) -> Self:
        """Return the bounds of a key.

        Args:
            scopes: its effective scopes, not all that it carries: what a project or its owner's role cuts
                away can't be handed on either.
            project_id: its project; None only for a key of the operator's, which creates for customers.
            mode: of its environment.
            networks: its `allowed_ips`, canonical.
            expires_at: of the secret that it presented.
            limit: what it has been given itself; it counts unless the key is the operator's.
        """
        return cls(
            scopes=frozenset(scopes),
            risks=EVERY_RISK,
            may_break_glass=False,
            project_id=project_id,
            mode=mode,
            networks=networks,
            expires_at=expires_at,
            limit=limit,
            exceeds_plan=project_id is None,
        )


def refuse_excess(
    creator: Bounds, *, scopes: Collection[str], risks: Risks, project_path: Collection[str], mode: Mode
) -> None:
    """Pass if the creator holds all this; for creating, widening and rotating another's key alike.

    Args:
        creator: whoever asks.
        scopes: every scope of the key as it would be, not the added ones alone.
        risks: the catalogue, scope to risk.
        project_path: the ids of the key's project and of all above it.
        mode: of the key's environment.

    Raises:
        ExceedsGrant: with the field at fault: `project`, `environment` or `scopes`.
    """
    if creator.project_id is not None and creator.project_id not in project_path:
        raise ExceedsGrant("This key reaches only its own project and those below it.", field="project")
    if creator.mode is not None and creator.mode is not mode:
        raise ExceedsGrant(f"A {creator.mode} key can't give out a {mode} one.", field="environment")
    beyond = sorted(scope for scope in scopes if not _may_give(creator, scope, risks))
    if beyond:
        raise ExceedsGrant(f"You can't grant {', '.join(beyond)}.", field="scopes")


def grant_networks(creator: Bounds, requested: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the networks of a new key: those requested, or, for None, the creator's own.

    Raises:
        ExceedsGrant: the requested ones (none is any address) reach beyond the creator's (field
            `allowed_ips`).
    """
    if requested is None:
        return creator.networks
    if not networks_within(requested, creator.networks):
        raise ExceedsGrant("These addresses reach beyond your own.", field="allowed_ips")
    return requested


def grant_expiry(creator: Bounds, rule: ExpiryRule, requested: Requested, now: datetime) -> datetime | None:
    """Return when a new secret expires: as the rule says, the default cut to the creator's own expiry.

    Raises:
        Invalid: the rule forbids it, see `expires_at`.
        ExceedsGrant: the requested time, or never, is beyond the creator's own (field `expires_at`).
    """
    wanted = expires_at(rule, requested, now)
    if creator.expires_at is None or (wanted is not None and wanted <= creator.expires_at):
        return wanted
    if requested is not ABSENT:
        raise ExceedsGrant("This is beyond your own expiry.", field="expires_at")
    return creator.expires_at


def grant_limit(creator: Bounds, requested: Given | Absent, plan: RateLimit | None) -> Given:
    """Return what a key is given of rate limits: what was requested, or, for `ABSENT`, the plan's.

    Where the plan lets through more than the creator itself has, a key gets what its creator was given.

    Args:
        creator: whoever asks.
        requested: a limit or tier of its own; None for the plan's, and for nothing less.
        plan: the limit that the organization's terms give to each of its keys.

    Raises:
        ExceedsGrant: more than the plan, or than the creator has (field `rate_limit`).
    """
    wanted = None if requested is ABSENT else requested
    if creator.exceeds_plan:
        return wanted
    given = allowance(wanted, plan)
    if not limit_is_within(given.rate_limit, plan):
        raise ExceedsGrant(f"More than the plan's {plan}, or in less time.", field="rate_limit")
    if given.is_within(allowance(creator.limit, plan)):
        return wanted
    if requested is not ABSENT:
        raise ExceedsGrant("This is more than you have yourself.", field="rate_limit")
    return creator.limit


def _may_give(creator: Bounds, scope: str, risks: Risks) -> bool:
    if covers(scope, BREAK_GLASS) and not creator.may_break_glass:
        return False
    return (creator.scopes is None or holds(creator.scopes, scope)) and allows(scope, risks, creator.risks)
