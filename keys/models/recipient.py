from typing import Final, Self

from django.contrib.postgres.expressions import ArraySubquery
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import OuterRef, Q

from keys.sealing import fingerprint
from orgs import ids
from orgs.models import Membership, Organization
from orgs.roles import Permission, Role, may

ROLES: Final = tuple(role for role in Role if may(role, Permission.ORGANIZATION_CONFIGURE))


def new_recipient_id() -> str:
    return ids.new("rcp")


class RecipientQuerySet(models.QuerySet["Recipient"]):
    """What pages and services ask of recipients."""

    def of(self, organization_id: str) -> Self:
        return self.filter(organization_id=organization_id)

    def current(self) -> Self:
        """Narrow to those that were not removed."""
        return self.filter(removed_at__isnull=True)

    def vouched(self, *, but_by: str = "") -> Self:
        """Narrow to those that somebody vouches for who may register one today, and is not `but_by`."""
        return self.filter(_vouched(but_by))

    def lapsed(self) -> Self:
        """Narrow to those that nobody vouches for any more."""
        return self.exclude(_vouched(""))


def _vouched(but_by: str) -> Q:
    present = Membership.objects.filter(
        organization=OuterRef("organization_id"), project__isnull=True, role__in=ROLES, user__is_active=True
    )
    return Q(vouched_by__overlap=ArraySubquery(present.exclude(user=but_by).values("user_id")))


class Recipient(models.Model):
    """An X25519 public key of an organization: what rotates by itself is sealed to the newest one. Never deleted.

    `vouched_by` only grows: who registered it, then who confirmed that the organization holds the private key. It is
    good while one of them may register one, so it lapses as they leave, with nothing to be written: they may have kept
    the private key.
    """

    id = models.CharField(primary_key=True, max_length=32, default=new_recipient_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    name = models.CharField(max_length=100)
    public_key = models.BinaryField(max_length=32)
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=32)
    vouched_by = ArrayField(models.CharField(max_length=32))
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
