"""What staff of the operator opened, and why: an organization to look at, or a search over all of them."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

MOST_MINUTES = 240
REASON_MIN, REASON_MAX = 10, 400


class SupportKind(models.TextChoices):
    """What is open: one organization's pages, or the search across all of them."""

    VISIT = "visit", "a visit"
    SEARCH = "search", "searches"


class SupportEnd(models.TextChoices):
    """Why it is closed."""

    OPEN = "", "open"
    LEFT = "left", "left"
    LAPSED = "lapsed", "the time was up"
    REPLACED = "replaced", "another one was opened"
    SIGNED_OUT = "signed_out", "signed out"
    ROLE_LOST = "role_lost", "no longer support staff"


class SupportSession(models.Model):
    """One staff person's visit or searches. A search belongs to the operator's organization, in whose ledger it stands.

    The database sets every time by its own clock, and takes the reason away at the end: what the customer's ledger
    sealed of it can be erased there, and no copy is left here.
    """

    id = models.CharField(primary_key=True, max_length=64)
    organization_id = models.CharField(max_length=64)
    kind = models.CharField(max_length=8, choices=SupportKind)
    user_id = models.CharField(max_length=64)
    reason = models.CharField(max_length=REASON_MAX, blank=True)
    minutes = models.SmallIntegerField()
    opened_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    ended_why = models.CharField(max_length=16, choices=SupportEnd, blank=True, default=SupportEnd.OPEN)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["expires_at"], condition=Q(ended_at__isnull=True), name="support_lapsing"),
            models.Index(fields=["organization_id", "-opened_at"], name="support_of_organization"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["user_id", "kind"], condition=Q(ended_at__isnull=True), name="support_one_at_a_time"
            ),
            models.CheckConstraint(
                condition=Q(minutes__gte=1, minutes__lte=MOST_MINUTES), name="support_four_hours"
            ),
            models.CheckConstraint(
                condition=Q(ended_at__isnull=True, ended_why="")
                | Q(ended_at__isnull=False, reason="") & ~Q(ended_why=""),
                name="support_ended_for_a_reason",
            ),
            models.CheckConstraint(condition=Q(kind__in=["visit", "search"]), name="support_kind_known"),
        ]

    def __str__(self) -> str:
        return self.id
