from django.db import models

from keys.policy.limits import TierLimit
from orgs.terms import MAX_WINDOW_SECONDS, RateLimit


class Tier(models.Model):
    """A named limit of the operator's, for keys that should have another than their plan's."""

    slug = models.SlugField(primary_key=True, max_length=63)
    name = models.CharField(max_length=100)
    description = models.TextField(blank=True, max_length=1000)
    requests = models.PositiveIntegerField()
    window_seconds = models.PositiveIntegerField()
    monthly_quota = models.PositiveBigIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("name",)
        constraints = (
            models.CheckConstraint(
                condition=models.Q(window_seconds__gte=1, window_seconds__lte=MAX_WINDOW_SECONDS),
                name="tier_window",
            ),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def rate_limit(self) -> RateLimit:
        """The limit of each key of this tier."""
        return RateLimit(self.requests, self.window_seconds)

    @property
    def limit(self) -> TierLimit:
        """What a key of this tier has been given."""
        return TierLimit(self.slug, self.rate_limit, self.monthly_quota)
