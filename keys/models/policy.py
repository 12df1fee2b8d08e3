from django.db import models

from keys.models.leak import LeakAction
from orgs.models import Organization


class LeaverAction(models.TextChoices):
    """What happens to the keys of a member who is removed."""

    DISABLE = "disable", "Disable their keys"
    REVOKE = "revoke", "Revoke their keys"
    HAND_OVER = "hand_over", "Hand their keys to a team"


class KeyPolicy(models.Model):
    """An organization's own rules for its keys; a missing row means the product's defaults."""

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
    self_rotation_max_days = models.PositiveSmallIntegerField(default=365)
    staged_cut_off_at_deadline = models.BooleanField(default=False)
    leaver_action = models.CharField(max_length=16, choices=LeaverAction, default=LeaverAction.DISABLE)
    leaver_team = models.CharField(max_length=100, blank=True)
    leak_action = models.CharField(max_length=16, choices=LeakAction, default=LeakAction.REVOKE)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return self.organization_id
