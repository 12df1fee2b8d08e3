from django.db import models

from orgs import ids
from orgs.models.organization import Organization, Project
from orgs.models.user import User
from orgs.roles import Role


def new_membership_id() -> str:
    return ids.new("mbr")


def new_invitation_id() -> str:
    return ids.new("inv")


ROLES = [(role.value, role.value.capitalize()) for role in Role]


class Membership(models.Model):
    """One role of one person, in an organization or in one of its projects and what lies below it."""

    id = models.CharField(primary_key=True, max_length=32, default=new_membership_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="memberships")
    project = models.ForeignKey(
        Project, null=True, blank=True, on_delete=models.PROTECT, related_name="memberships"
    )
    role = models.CharField(max_length=16, choices=ROLES)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=["organization", "user", "project"], nulls_distinct=False, name="membership_unique"
            ),
            models.CheckConstraint(
                condition=models.Q(role__in=[role.value for role in Role]), name="membership_role"
            ),
            models.CheckConstraint(
                condition=models.Q(project__isnull=True) | ~models.Q(role="owner"),
                name="membership_owner_of_all",
            ),
        )

    def __str__(self) -> str:
        return f"{self.user_id} {self.role}"


class Invitation(models.Model):
    """A link that lets one person join; only the digest of its token is kept."""

    id = models.CharField(primary_key=True, max_length=32, default=new_invitation_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="invitations")
    email = models.EmailField(max_length=254)
    project = models.ForeignKey(
        Project, null=True, blank=True, on_delete=models.PROTECT, related_name="invitations"
    )
    role = models.CharField(max_length=16, choices=ROLES)
    digest = models.BinaryField(max_length=32, unique=True)
    invited_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="invitations_sent")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = (models.Index(fields=["organization", "created_at"], name="invitation_recent"),)
        constraints = (
            models.CheckConstraint(
                condition=models.Q(role__in=[role.value for role in Role]), name="invitation_role"
            ),
        )

    def __str__(self) -> str:
        return self.id
