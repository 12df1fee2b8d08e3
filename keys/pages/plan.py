"""What an organization has bought and how much of it is spent, as Settings shows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count

from keys.models import ApiKey, Tier
from keys.pages import limit_words, meters
from keys.pages.meters import Meter
from keys.services.common import terms_of
from orgs.members import Member
from orgs.models import Organization, Plan
from orgs.roles import Permission
from orgs.terms import ENTITLEMENTS, Entitlement, Terms


@dataclass(frozen=True, slots=True)
class Room:
    """How many keys have not ended, of how many there may be; `cap` None for any number."""

    used: int
    cap: int | None

    @property
    def is_full(self) -> bool:
        """Whether no key can be made until another ends."""
        return self.cap is not None and self.used >= self.cap


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One entitlement in words; `is_agreed` where the organization's own terms say it."""

    name: str
    value: str
    is_bought: bool
    is_agreed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedTier:
    """A tier that the organization's keys may have, or some have: what it gives, and to how many."""

    tier: Tier
    gives: str
    keys: int
    is_offered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Bought:
    """Everything on the page. `sees_spent` is false for members of single projects: what is spent is everybody's."""

    plan: Plan
    terms: Terms
    agreed: frozenset[str]
    rate: str
    features: Sequence[Feature]
    tiers: Sequence[NamedTier]
    room: Room
    spent: Meter
    sees_spent: bool

    @property
    def in_use(self) -> Meter:
        """Keys in use as a meter."""
        return meters.counted("Keys in use", self.room.used, self.room.cap)


def of_member(member: Member, now: datetime) -> Bought:
    """Return what a member reads of their organization's plan."""
    organization = Organization.objects.select_related("plan").get(pk=member.organization_id)
    terms = organization.terms
    return Bought(
        plan=organization.plan,
        terms=terms,
        agreed=frozenset(organization.overrides),
        rate=limit_words.rate(terms.rate_limit),
        features=_features(terms, organization.overrides.get(ENTITLEMENTS, {})),
        tiers=_tiers(organization, now),
        room=_room(organization.id, terms, now),
        spent=meters.of_organization(organization, now),
        sees_spent=member.may(Permission.KEYS_VIEW),
    )


def room(organization_id: str, now: datetime) -> Room:
    """Return whether there is room for another key; nothing is counted where there is no cap."""
    terms = terms_of(organization_id)
    return Room(0, None) if terms.key_cap is None else _room(organization_id, terms, now)


def _room(organization_id: str, terms: Terms, now: datetime) -> Room:
    return Room(ApiKey.objects.of(organization_id).not_ended(now).count(), terms.key_cap)


def _features(terms: Terms, own: dict[str, Entitlement | None]) -> list[Feature]:
    names = sorted({*terms.entitlements, *own})
    return [
        Feature(
            name=name,
            value=_value(terms.entitlements.get(name, False)),
            is_bought=bool(terms.entitlements.get(name, False)),
            is_agreed=name in own,
        )
        for name in names
    ]


def _value(value: Entitlement) -> str:
    if isinstance(value, bool):
        return "Included" if value else "Not included"
    return f"{int(value):,}" if value == int(value) else f"{value:,}"


def _tiers(organization: Organization, now: datetime) -> list[NamedTier]:
    """Return the tiers within the plan, and those that the operator has given to keys all the same."""
    having = ApiKey.objects.of(organization.id).not_ended(now).filter(tier__isnull=False)
    counts = dict(having.values_list("tier_id").annotate(Count("id")))
    offered = {tier.slug for tier in limit_words.tiers_within(organization.terms.rate_limit)}
    return [
        NamedTier(
            tier=tier,
            gives=limit_words.tier_terms(tier),
            keys=counts.get(tier.slug, 0),
            is_offered=tier.slug in offered,
        )
        for tier in Tier.objects.filter(pk__in=[*offered, *counts])
    ]
