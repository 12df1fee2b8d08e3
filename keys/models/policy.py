from typing import Final

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from keys import governance
from keys.governance import Required
from keys.models.leak import LeakAction
from orgs.models import Organization

DEFAULT_NOTICE_DAYS: Final = (30, 7, 1)
DEFAULT_GRACE_SECONDS: Final = 86_400
DEFAULT_LEAVER_GRACE_SECONDS: Final = 604_800

APPROVALS_REQUIRED: Final = (
    (Required.NONE.value, "No, whoever makes the key decides"),
    (Required.PRODUCTION.value, "Yes, in production"),
    (Required.ALWAYS.value, "Yes, in every environment"),
)


class LeaverAction(models.TextChoices):
    """What happens to the keys of a member who is removed."""

    ROTATE = "rotate", "Rotate their keys, and hand them to a team"
    DISABLE = "disable", "Disable their keys"
    REVOKE = "revoke", "Revoke their keys"
    HAND_OVER = "hand_over", "Hand their keys to a team"


def default_notice_days() -> list[int]:
    """Return how many days before its expiry a key is spoken of, as the product has it."""
    return list(DEFAULT_NOTICE_DAYS)


class KeyPolicy(models.Model):
    """An organization's own rules for its keys; a missing row means the product's defaults.

    `notice_days` is falling; `auto_grace_seconds` is the old secret's after an automatic rotation,
    `leaver_grace_seconds` after its owner left.
    """

    organization = models.OneToOneField(
        Organization, primary_key=True, on_delete=models.PROTECT, related_name="+"
    )
    ingestion_default_days = models.PositiveSmallIntegerField(default=90)
    ingestion_max_days = models.PositiveSmallIntegerField(default=365)
    ingestion_may_never_expire = models.BooleanField(default=True)
    control_plane_default_days = models.PositiveSmallIntegerField(default=90)
    control_plane_max_days = models.PositiveSmallIntegerField(default=365)
    service_default_days = models.PositiveSmallIntegerField(default=7)
    service_max_days = models.PositiveSmallIntegerField(default=30)
    requires_ips_in_production = models.BooleanField(default=False)
    notice_days = ArrayField(models.PositiveSmallIntegerField(), default=default_notice_days)
    auto_grace_seconds = models.PositiveIntegerField(default=DEFAULT_GRACE_SECONDS)
    self_rotation_max_days = models.PositiveSmallIntegerField(default=365)
    staged_cut_off_at_deadline = models.BooleanField(default=False)
    leaver_action = models.CharField(max_length=16, choices=LeaverAction, default=LeaverAction.DISABLE)
    leaver_grace_seconds = models.PositiveIntegerField(default=DEFAULT_LEAVER_GRACE_SECONDS)
    leaver_team = models.CharField(max_length=100, blank=True)
    leak_action = models.CharField(max_length=16, choices=LeakAction, default=LeakAction.REVOKE)
    approvals_required = models.CharField(
        max_length=16, choices=APPROVALS_REQUIRED, default=Required.NONE.value
    )
    approval_max_hours = models.PositiveSmallIntegerField(default=governance.MAX_HOURS)
    approval_max_uses = models.PositiveSmallIntegerField(default=governance.MAX_USES)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = (
            models.CheckConstraint(
                condition=Q(approvals_required__in=[where.value for where in Required]),
                name="policy_approvals_required",
            ),
            models.CheckConstraint(
                condition=Q(approval_max_hours__gte=1, approval_max_hours__lte=governance.MAX_HOURS),
                name="policy_approval_hours",
            ),
            models.CheckConstraint(
                condition=Q(approval_max_uses__gte=1, approval_max_uses__lte=governance.MAX_USES),
                name="policy_approval_uses",
            ),
        )

    def __str__(self) -> str:
        return self.organization_id
