"""Tiers for the tests, made by the services."""

from audit import tenancy
from keys import services
from keys.models import Tier
from keys.services import TierDraft
from tests import builders


def tier(requests: int = 500, window_seconds: int = 60, *, monthly_quota: int | None = None) -> Tier:
    """Make a tier with a slug that nothing else has."""
    draft = TierDraft(
        name="Tier", requests=requests, window_seconds=window_seconds, monthly_quota=monthly_quota
    )
    with tenancy.everywhere(tenancy.Reason.COMMAND):
        return services.create_tier(builders.unique("tier"), draft, actor=builders.OPERATOR)
