from typing import Self

from django.db import models
from django.db.models import Q

from keys.sealing import fingerprint
from orgs import ids
from orgs.models import Organization


def new_recipient_id() -> str:
    return ids.new("rcp")


class RecipientQuerySet(models.QuerySet["Recipient"]):
    """What pages and services ask of recipients."""

    def of(self, organization_id: str) -> Self:
        return self.filter(organization_id=organization_id)

    def current(self) -> Self:
        """Narrow to those that were not removed."""
        return self.filter(removed_at__isnull=True)


class Recipient(models.Model):
    """An X25519 public key of an organization: what rotates by itself is sealed to the newest one. Never deleted."""

    id = models.CharField(primary_key=True, max_length=32, default=new_recipient_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    name = models.CharField(max_length=100)
    public_key = models.BinaryField(max_length=32)
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=32)
    removed_at = models.DateTimeField(null=True, blank=True)
    removed_by = models.CharField(max_length=32, blank=True)

    objects = RecipientQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at", "-id")
        constraints = (
            models.UniqueConstraint(
                fields=["organization", "public_key"],
                condition=Q(removed_at__isnull=True),
                name="recipient_once",
            ),
        )
        indexes = (models.Index(fields=["organization", "-created_at", "-id"], name="recipient_by_created"),)

    def __str__(self) -> str:
        return self.name

    @property
    def fingerprint(self) -> str:
        """What people compare a public key by."""
        return fingerprint(bytes(self.public_key))
