from collections.abc import Collection
from datetime import datetime
from typing import Self

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from keys.models.tier import Tier
from keys.policy.limits import Given
from keys.secret import Kind
from orgs import ids
from orgs.models import Environment, Organization, Project, User
from orgs.terms import MAX_WINDOW_SECONDS, RateLimit


class OwnerType(models.TextChoices):
    MEMBER = "member", "member"
    TEAM = "team", "team"


class Status(models.TextChoices):
    """A key's state. `expired` and the end of a limited disabling are computed from time, never stored."""

    ACTIVE = "active", "Active"
    DISABLED = "disabled", "Disabled"
    EXPIRED = "expired", "Expired"
    REVOKED = "revoked", "Revoked"


class RevocationReason(models.TextChoices):
    LEAKED = "leaked", "Leaked"
    UNUSED = "unused", "Unused"
    ROTATED_OUT = "rotated_out", "Rotated out"
    OWNER_LEFT = "owner_left", "Owner left"
    INCIDENT = "incident", "Incident"
    OTHER = "other", "Other"


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    """What pages and API ask of keys; every filter is an index led by the organization."""

    def of(self, organization_id: str) -> Self:
        return self.filter(organization_id=organization_id)

    def in_projects(self, project_ids: Collection[str] | None) -> Self:
        """Narrow to the given projects; None narrows nothing (whoever reaches the root)."""
        return self if project_ids is None else self.filter(project_id__in=project_ids)

    def not_ended(self, now: datetime) -> Self:
        return self.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now), revoked_at__isnull=True)

    def with_status(self, status: str, now: datetime) -> Self:
        """Narrow to one state as of `now`; `not_ended` takes active and disabled together."""
        running = self.not_ended(now)
        disabled = Q(is_disabled=True) | Q(disabled_until__gt=now)
        match status:
            case Status.REVOKED:
                return self.filter(revoked_at__isnull=False)
            case Status.EXPIRED:
                return self.filter(revoked_at__isnull=True, expires_at__lte=now)
            case Status.DISABLED:
                return running.filter(disabled)
            case Status.ACTIVE:
                return running.exclude(disabled)
            case _:
                return running

    def returned(self, now: datetime) -> Self:
        """Narrow to keys that were disabled for a while which is over, and of which nobody has said so yet."""
        return self.not_ended(now).filter(disabled_until__lte=now, is_disabled=False)

    def carrying(self, term: str) -> Self:
        """Narrow to keys with a scope (`scope:incidents:read`) or tag (`tag:team=noc`)."""
        return self.filter(pk__in=KeyTerm.objects.filter(term=term).values("key_id"))


def new_key_id() -> str:
    return ids.new("key")


class ApiKey(models.Model):
    """A key: a stable id with its policy. Its secrets are versions in `KeySecret`; it is never deleted.

    `expires_at` is the newest secret's. `ended_at` frees the name: set when the key is revoked, or when an
    expired key's name is taken again.
    """

    id = models.CharField(primary_key=True, max_length=32, default=new_key_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="+", db_index=False)
    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="+", db_index=False)
    kind = models.CharField(max_length=16, choices=[(kind.value, kind.value) for kind in Kind])
    name = models.CharField(max_length=63, db_collation="C")
    description = models.TextField(blank=True)
    owner_type = models.CharField(max_length=8, choices=OwnerType, default=OwnerType.TEAM)
    owner_user = models.ForeignKey(
        User, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    owner_team = models.CharField(max_length=100, blank=True)
    tags = models.JSONField(default=dict, blank=True)
    scopes = ArrayField(models.CharField(max_length=65))
    allowed_ips = ArrayField(models.CharField(max_length=43), default=list, blank=True)
    rate_limit_requests = models.PositiveIntegerField(null=True, blank=True)
    rate_limit_window_seconds = models.PositiveIntegerField(null=True, blank=True)
    tier = models.ForeignKey(
        Tier, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    rotation_interval_days = models.PositiveIntegerField(null=True, blank=True)
    auto_rotate = models.BooleanField(default=False, db_default=False)
    may_rotate_itself = models.BooleanField(default=True)
    approval_bound = models.BooleanField(default=False, db_default=False)

    newest_version = models.PositiveIntegerField(default=1)
    hint = models.CharField(max_length=4, db_collation="C")
    expires_at = models.DateTimeField(null=True, blank=True)
    is_disabled = models.BooleanField(default=False)
    disabled_until = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_by = models.CharField(max_length=32, blank=True)
    revocation_reason = models.CharField(max_length=16, choices=RevocationReason, blank=True)
    revocation_note = models.TextField(blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=32)
    updated_at = models.DateTimeField()
    person_touched_at = models.DateTimeField()

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=["environment", "name"], condition=Q(ended_at__isnull=True), name="key_name_unique"
            ),
            models.CheckConstraint(
                condition=Q(owner_type="member", owner_user__isnull=False, owner_team="")
                | Q(owner_type="team", owner_user__isnull=True),
                name="key_owner",
            ),
            models.CheckConstraint(
                condition=Q(revoked_at__isnull=True, revocation_reason="")
                | (Q(revoked_at__isnull=False, ended_at__isnull=False) & ~Q(revocation_reason="")),
                name="key_revocation_whole",
            ),
            models.CheckConstraint(
                condition=Q(name__regex=r"^[a-z0-9][a-z0-9-]{1,62}$"), name="key_name_form"
            ),
            models.CheckConstraint(
                condition=Q(scopes__len__gte=1, scopes__len__lte=64), name="key_scopes_count"
            ),
            models.CheckConstraint(condition=Q(newest_version__gte=1), name="key_version"),
            models.CheckConstraint(
                condition=Q(auto_rotate=False) | Q(rotation_interval_days__isnull=False),
                name="key_auto_rotation_interval",
            ),
            models.CheckConstraint(
                condition=Q(approval_bound=False) | Q(kind="service"), name="key_bound_is_service"
            ),
            models.CheckConstraint(
                condition=Q(rate_limit_requests__isnull=True, rate_limit_window_seconds__isnull=True)
                | Q(
                    rate_limit_requests__isnull=False,
                    rate_limit_window_seconds__gte=1,
                    rate_limit_window_seconds__lte=MAX_WINDOW_SECONDS,
                    tier__isnull=True,
                ),
                name="key_rate_limit_whole",
            ),
        )
        indexes = (
            models.Index(fields=["organization", "-created_at", "-id"], name="key_by_created"),
            models.Index(fields=["organization", "name", "id"], name="key_by_name"),
            models.Index(fields=["organization", "expires_at", "id"], name="key_by_expiry"),
            models.Index(fields=["organization", "kind", "-created_at"], name="key_by_kind"),
            models.Index(fields=["organization", "environment", "-created_at"], name="key_by_environment"),
            models.Index(fields=["organization", "project", "-created_at"], name="key_by_project"),
            models.Index(fields=["organization", "owner_user"], name="key_by_owner"),
            models.Index(fields=["organization", "owner_team"], name="key_by_team"),
            models.Index(fields=["organization", "hint"], name="key_by_hint"),
            models.Index(
                fields=["organization", "revoked_at"],
                condition=Q(revoked_at__isnull=False),
                name="key_by_revocation",
            ),
            models.Index(
                fields=["organization"],
                condition=Q(is_disabled=True) | Q(disabled_until__isnull=False),
                name="key_disabled",
            ),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def own_rate_limit(self) -> RateLimit | None:
        """The limit that the key has been given for itself."""
        requests, window = self.rate_limit_requests, self.rate_limit_window_seconds
        return None if requests is None or window is None else RateLimit(requests, window)

    @property
    def limit(self) -> Given:
        """What the key has been given: a limit of its own, its tier's, or None for the plan's."""
        return self.tier.limit if self.tier else self.own_rate_limit

    def status(self, now: datetime) -> Status:
        """Return the state as of `now`."""
        if self.revoked_at is not None:
            return Status.REVOKED
        if self.expires_at is not None and self.expires_at <= now:
            return Status.EXPIRED
        if self.is_disabled or (self.disabled_until is not None and self.disabled_until > now):
            return Status.DISABLED
        return Status.ACTIVE


class KeyTerm(models.Model):
    """A scope or tag of a key, for filters: kept by a trigger on `keys_apikey`, never written by the application.

    Under row-level security the planner can't use GIN indexes (their operators are not leakproof); equality can.
    `since`: when it was given to a key that there was already; None for what the key was made with.
    """

    pk = models.CompositePrimaryKey("organization_id", "term", "key_id")
    organization_id = models.CharField(max_length=32)
    term = models.CharField(max_length=110)
    key_id = models.CharField(max_length=32)
    since = models.DateTimeField(null=True)

    class Meta:
        managed = False
        db_table = "keys_term"

    def __str__(self) -> str:
        return self.term
