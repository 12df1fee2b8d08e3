from datetime import datetime

from django.db import models
from django.db.models import Q

from keys.models.key import ApiKey
from orgs import ids


class KeySecret(models.Model):
    """One version of a key's secret: its digest and hint, and nothing else of it, ever.

    An older version is accepted until `accepted_until`; the newest until its own `expires_at`.
    """

    pk = models.CompositePrimaryKey("key", "version")
    key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, related_name="secrets")
    organization_id = models.CharField(max_length=32)
    version = models.PositiveIntegerField()
    digest = models.BinaryField(max_length=32, unique=True)
    pepper_version = models.PositiveSmallIntegerField()
    hint = models.CharField(max_length=4)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    accepted_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-version",)
        indexes = (models.Index(fields=["organization_id", "hint"], name="secret_by_hint"),)

    def __str__(self) -> str:
        return f"{self.key_id} v{self.version}"


class RotationMode(models.TextChoices):
    IMMEDIATE = "immediate", "immediate"
    GRACE = "grace", "grace"


def new_rotation_id() -> str:
    return ids.new("rot")


class Rotation(models.Model):
    """One rotation of a key. Whether it is running is computed from time: no job ends it.

    `sealed_secret` is the new secret as only the recipient `sealed_to` can open it, where the key rotated by itself
    and until somebody fetched it or the rotation ended: the database takes it away with whatever ends the rotation.
    """

    id = models.CharField(primary_key=True, max_length=32, default=new_rotation_id, editable=False)
    key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, related_name="rotations")
    organization_id = models.CharField(max_length=32)
    mode = models.CharField(max_length=16, choices=RotationMode)
    old_version = models.PositiveIntegerField()
    new_version = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    started_by = models.CharField(max_length=32)
    grace_ends_at = models.DateTimeField()
    superseded_at = models.DateTimeField(null=True, blank=True)
    sealed_secret = models.BinaryField(null=True, max_length=512)
    sealed_to = models.CharField(max_length=32, blank=True, db_default="")

    class Meta:
        ordering = ("-started_at", "-new_version")
        constraints = (
            models.UniqueConstraint(fields=["key", "new_version"], name="rotation_one_successor"),
            models.CheckConstraint(
                condition=Q(new_version__gt=models.F("old_version")), name="rotation_grows"
            ),
        )

    def __str__(self) -> str:
        return f"{self.key_id} v{self.old_version} → v{self.new_version}"

    def is_running(self, now: datetime) -> bool:
        return self.superseded_at is None and self.grace_ends_at > now
