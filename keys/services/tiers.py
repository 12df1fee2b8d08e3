"""The operator's tiers: named limits for keys that should have another than their plan's."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from audit import ledger, tenancy
from audit.actors import Actor
from audit.acts import Act
from keys.errors import Invalid, InvalidMany, NameTaken
from keys.models import Tier
from orgs.models.organization import SLUG
from orgs.terms import RateLimit, Terms, term_errors

_FIELDS: Final[Mapping[str, str]] = {
    "rate_limit_requests": "requests",
    "rate_limit_window_seconds": "window_seconds",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TierDraft:
    """A tier's words, and what each of its keys may spend: `requests` in any `window_seconds`, and in a month."""

    name: str
    requests: int
    window_seconds: int
    description: str = ""
    monthly_quota: int | None = None


def create_tier(slug: str, draft: TierDraft, *, actor: Actor) -> Tier:
    """Make a tier; entry `tier.created` in the operator's ledger.

    Args:
        slug: of the form `orgs.models.organization.SLUG`; requests of the API name it.
        draft: words and limits.
        actor: the operator's.

    Raises:
        Invalid, InvalidMany: no slug by form, or a limit out of bounds (field names of `TierDraft`).
        NameTaken: another tier has the slug.
    """
    if re.fullmatch(SLUG, slug) is None:
        raise Invalid("1 to 63 lower-case letters, digits and hyphens.", field="slug")
    check_tier(draft)
    with ledger.recording(tenancy.operator_id(), actor) as entry:
        tier, is_new = Tier.objects.get_or_create(slug=slug, defaults=asdict(draft))
        if not is_new:
            raise NameTaken("Another tier has this short name.", field="slug")
        entry(Act.TIER_CREATED, target=slug, data={"name": draft.name, "after": asdict(draft)})
    return tier


def change_tier(tier: Tier, draft: TierDraft, *, actor: Actor) -> bool:
    """Change a tier, for all its keys from the next call on; entry `tier.changed`; return whether anything changed.

    Raises:
        Invalid, InvalidMany: a limit out of bounds (field names of `TierDraft`).
    """
    check_tier(draft)
    with ledger.recording(tenancy.operator_id(), actor) as entry:
        stored = Tier.objects.select_for_update().get(pk=tier.pk)
        columns = {name: value for name, value in asdict(draft).items() if getattr(stored, name) != value}
        if columns:
            before = {name: getattr(stored, name) for name in columns}
            Tier.objects.filter(pk=tier.pk).update(**columns)
            data = {"name": stored.name, "before": before, "after": columns}
            entry(Act.TIER_CHANGED, target=tier.pk, data=data)
    tier.refresh_from_db()
    return bool(columns)


def check_tier(draft: TierDraft) -> None:
    """Pass a tier whose every figure is within its bounds.

    Raises:
        InvalidMany: field names of `TierDraft`.
    """
    limit = RateLimit(draft.requests, draft.window_seconds)
    errors = [
        Invalid(error.detail, field=_FIELDS.get(error.field, error.field))
        for error in term_errors(Terms(rate_limit=limit, monthly_quota=draft.monthly_quota))
    ]
    if errors:
        raise InvalidMany(errors)
