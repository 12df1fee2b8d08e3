from collections.abc import Collection

from django.contrib.postgres.fields import ArrayField
from django.db import models

from orgs import ids
from orgs.terms import MAX_WINDOW_SECONDS, RateLimit, Terms, effective

SLUG = r"^[a-z0-9][a-z0-9-]{0,62}$"
LABELS = " / "


def new_organization_id() -> str:
    return ids.new("org")


def new_project_id() -> str:
    return ids.new("prj")


def new_environment_id() -> str:
    return ids.new("env")


class Plan(models.Model):
    """What an organization has bought; limits and entitlements hang here."""

    slug = models.SlugField(primary_key=True, max_length=63)
    name = models.CharField(max_length=100)
    description = models.TextField(blank=True, max_length=1000)
    rate_limit_requests = models.PositiveIntegerField(null=True, blank=True)
    rate_limit_window_seconds = models.PositiveIntegerField(null=True, blank=True)
    monthly_quota = models.PositiveBigIntegerField(null=True, blank=True)
    key_cap = models.PositiveIntegerField(null=True, blank=True)
    entitlements = models.JSONField(default=dict, blank=True)
    usage_retention_days = models.PositiveSmallIntegerField(default=90)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("name",)
        constraints = (
            models.CheckConstraint(
                condition=models.Q(rate_limit_requests__isnull=True, rate_limit_window_seconds__isnull=True)
                | models.Q(
                    rate_limit_requests__isnull=False,
                    rate_limit_window_seconds__gte=1,
                    rate_limit_window_seconds__lte=MAX_WINDOW_SECONDS,
                ),
                name="plan_rate_limit_whole",
            ),
            models.CheckConstraint(
                condition=models.Q(usage_retention_days__gte=1), name="plan_usage_retention"
            ),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def terms(self) -> Terms:
        """The plan's own terms, before an organization's overrides."""
        requests, window = self.rate_limit_requests, self.rate_limit_window_seconds
        return Terms(
            rate_limit=None if requests is None or window is None else RateLimit(requests, window),
            monthly_quota=self.monthly_quota,
            key_cap=self.key_cap,
            entitlements=self.entitlements,
        )


class Organization(models.Model):
    """A customer of the operator, or the operator itself: the tenant that every row below belongs to."""

    id = models.CharField(primary_key=True, max_length=32, default=new_organization_id, editable=False)
    slug = models.SlugField(max_length=63, unique=True)
    name = models.CharField(max_length=100)
    is_operator = models.BooleanField(default=False, editable=False)
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="organizations")
    overrides = models.JSONField(default=dict, blank=True, editable=False)
    suspended_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("name",)
        constraints = (
            models.UniqueConstraint(
                fields=["is_operator"], condition=models.Q(is_operator=True), name="organization_one_operator"
            ),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def terms(self) -> Terms:
        """The terms that count: the plan's, with what the operator agreed to differently."""
        return effective(self.plan.terms, self.overrides)


class ProjectQuerySet(models.QuerySet["Project"]):
    def of(self, organization_id: str) -> "ProjectQuerySet":
        return self.filter(organization_id=organization_id)

    def below(self, roots: Collection["Project"]) -> "ProjectQuerySet":
        """Narrow to the given projects and everything below them."""
        condition = models.Q(pk__in=[])
        for root in roots:
            condition |= models.Q(path__startswith=root.path)
        return self.filter(condition)

    def in_tree_order(self) -> "ProjectQuerySet":
        """Order each project before what lies below it, siblings by name: name by name, not letter by letter."""
        return self.order_by(
            models.Func("label_path", models.Value(LABELS), function="string_to_array"), "id"
        )


class Project(models.Model):
    """A part of an organization. A key of a project serves the projects below it too.

    `path` holds the ids from the root down, `/prj_a/prj_b/`; a project never moves, so it never changes.
    `label_path` holds the names, `Acme / Billing`, and follows a renaming.
    `scopes` narrows what keys of this project and below may do; null narrows nothing.
    """

    id = models.CharField(primary_key=True, max_length=32, default=new_project_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="projects")
    parent = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="children"
    )
    name = models.CharField(max_length=100)
    path = models.CharField(max_length=512, editable=False)
    label_path = models.CharField(max_length=2048, editable=False)
    scopes = ArrayField(models.CharField(max_length=65), null=True, blank=True)
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ProjectQuerySet.as_manager()

    class Meta:
        ordering = ("label_path",)
        constraints = (
            models.UniqueConstraint(
                fields=["organization"], condition=models.Q(parent__isnull=True), name="project_one_root"
            ),
            models.UniqueConstraint(
                fields=["parent", "name"],
                condition=models.Q(archived_at__isnull=True),
                name="project_name_unique",
            ),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def ancestors(self) -> tuple[str, ...]:
        """The ids from the root down to this project itself."""
        return tuple(self.path.strip("/").split("/"))

    @property
    def depth(self) -> int:
        """0 for the root."""
        return len(self.ancestors) - 1


class Environment(models.Model):
    """Where keys are used: production, staging, lab … Each is `live` or `test` for ever, as its keys' secrets say."""

    class Mode(models.TextChoices):
        LIVE = "live", "live"
        TEST = "test", "test"

    id = models.CharField(primary_key=True, max_length=32, default=new_environment_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="environments")
    slug = models.SlugField(max_length=63)
    name = models.CharField(max_length=100)
    mode = models.CharField(max_length=4, choices=Mode)
    is_production = models.BooleanField(default=False)
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-is_production", "mode", "name")
        constraints = (
            models.UniqueConstraint(fields=["organization", "slug"], name="environment_slug_unique"),
            models.CheckConstraint(
                condition=models.Q(is_production=False) | models.Q(mode="live"),
                name="environment_production_is_live",
            ),
            models.CheckConstraint(
                condition=models.Q(mode__in=["live", "test"]), name="environment_mode_known"
            ),
            models.CheckConstraint(
                condition=~models.Q(slug__in=["live", "test"]), name="environment_slug_is_no_mode"
            ),
        )

    def __str__(self) -> str:
        return self.name
