from datetime import datetime

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from keys import governance
from keys.governance import ApprovalState, Decision, Parity, Step
from keys.models.key import ApiKey
from orgs import ids

DIGEST = r"^[0-9a-f]{64}$"


def new_approval_id() -> str:
    return ids.new("apr")


def new_execution_id() -> str:
    return ids.new("exe")


class ApprovalQuerySet(models.QuerySet["Approval"]):
    """What pages and API ask of approvals; the counter of uses comes along."""

    def of(self, organization_id: str) -> "ApprovalQuerySet":
        return self.filter(organization_id=organization_id)

    def whole(self) -> "ApprovalQuerySet":
        """Read the key, its place, and the counter in the same statement."""
        return self.select_related("key__project", "key__environment", "key__owner_user", "spend")

    def in_state(self, state: str, now: datetime) -> "ApprovalQuerySet":
        """Narrow to one state as of `now`, as `governance.state` computes it."""
        granted, is_over = Q(decision=Decision.GRANTED), Q(valid_until__lte=now)
        is_spent = Q(spend__spent__gte=F("uses"))
        match state:
            case ApprovalState.REQUESTED:
                return self.filter(decision=Decision.NONE, valid_until__gt=now)
            case ApprovalState.GRANTED:
                return self.filter(granted & ~is_spent, valid_until__gt=now)
            case ApprovalState.DENIED:
                return self.filter(decision=Decision.DENIED)
            case ApprovalState.USED_UP:
                return self.filter(granted & is_spent)
            case _:
                return self.filter(is_over & (Q(decision=Decision.NONE) | (granted & ~is_spent)))


class Approval(models.Model):
    """A request to let one bound key do one thing, and what a person said to it. What was asked for never changes.

    `behind` are the people behind the key that asked, as they were then: none of them decides. Whether it still counts
    is computed from time and from its uses (`governance.state`); `expired_told_at` is when the ledger was told of its
    end.
    """

    id = models.CharField(primary_key=True, max_length=32, default=new_approval_id, editable=False)
    organization_id = models.CharField(max_length=32)
    key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, related_name="approvals", db_index=False)
    scope = models.CharField(max_length=65, db_collation="C")
    resource = models.CharField(max_length=128, blank=True)
    parameters_digest = models.CharField(max_length=64, db_collation="C")
    parameters = models.JSONField(null=True, blank=True)
    steps = models.JSONField(default=list, blank=True)
    reason = models.TextField()
    incident = models.CharField(max_length=128, blank=True, db_collation="C")
    request_id = models.CharField(max_length=128, blank=True, db_collation="C")
    valid_until = models.DateTimeField()
    uses = models.PositiveSmallIntegerField(default=1)
    requested_at = models.DateTimeField()
    requested_by = models.CharField(max_length=32)
    # Of the secret that a key asked with: whoever made that very secret may hold it.
    requested_version = models.PositiveIntegerField(null=True, blank=True)
    behind = ArrayField(models.CharField(max_length=32), default=list, blank=True)
    decision = models.CharField(max_length=8, blank=True, default="")
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.CharField(max_length=32, blank=True, default="")
    note = models.TextField(blank=True, default="")
    expired_told_at = models.DateTimeField(null=True, blank=True)

    objects = ApprovalQuerySet.as_manager()

    class Meta:
        indexes = (
            models.Index(fields=["organization_id", "-requested_at", "-id"], name="approval_by_time"),
            models.Index(fields=["key", "-requested_at"], name="approval_by_key"),
            models.Index(
                fields=["organization_id", "incident"], condition=~Q(incident=""), name="approval_by_incident"
            ),
            models.Index(
                fields=["organization_id", "request_id"],
                condition=~Q(request_id=""),
                name="approval_by_request",
            ),
            models.Index(
                fields=["valid_until"],
                condition=Q(expired_told_at__isnull=True) & ~Q(decision=Decision.DENIED.value),
                name="approval_ending",
            ),
        )
        constraints = (
            models.CheckConstraint(
                condition=Q(uses__gte=1, uses__lte=governance.MAX_USES), name="approval_uses"
            ),
            models.CheckConstraint(condition=Q(parameters_digest__regex=DIGEST), name="approval_digest"),
            models.CheckConstraint(condition=~Q(reason=""), name="approval_reason"),
            models.CheckConstraint(
                condition=Q(valid_until__gt=F("requested_at"))
                & Q(valid_until__lte=F("requested_at") + governance.MAX_VALIDITY),
                name="approval_validity",
            ),
            models.CheckConstraint(
                condition=Q(decision="", decided_at__isnull=True, decided_by="")
                | (
                    Q(decision__in=["granted", "denied"], decided_at__isnull=False)
                    & Q(decided_by__startswith="usr_")
                ),
                name="approval_decision_whole",
            ),
            # Never one's own, whatever the code above it believes.
            models.CheckConstraint(
                condition=Q(decided_by="") | ~Q(decided_by=F("requested_by")), name="approval_not_ones_own"
            ),
        )

    def __str__(self) -> str:
        return self.id

    @property
    def spent(self) -> int:
        """How many of its uses are spent."""
        return self.spend.spent

    @property
    def planned(self) -> list[Step]:
        """The steps that were planned."""
        return [Step(each["name"], each["digest"]) for each in self.steps]

    def state(self, now: datetime) -> ApprovalState:
        """Return what has become of it."""
        return governance.state(self.decision, self.valid_until, self.uses, self.spent, now)


class ApprovalSpend(models.Model):
    """How often an approval was used. Written by verification alone, apart from what people lock."""

    approval = models.OneToOneField(
        Approval, primary_key=True, on_delete=models.PROTECT, related_name="spend", db_constraint=False
    )
    organization_id = models.CharField(max_length=32)
    uses = models.PositiveSmallIntegerField()
    spent = models.PositiveSmallIntegerField(db_default=0)

    class Meta:
        constraints = (models.CheckConstraint(condition=Q(spent__lte=F("uses")), name="approval_spent"),)

    def __str__(self) -> str:
        return f"{self.approval_id} {self.spent}/{self.uses}"


class ApprovalUse(models.Model):
    """One use of an approval, numbered from 1; `told_at` is when the ledger was told of it."""

    pk = models.CompositePrimaryKey("approval_id", "number")
    approval_id = models.CharField(max_length=32)
    number = models.PositiveSmallIntegerField()
    organization_id = models.CharField(max_length=32)
    key_id = models.CharField(max_length=32)
    at = models.DateTimeField()
    ip = models.GenericIPAddressField(null=True)
    request_id = models.CharField(max_length=128)
    verifier_id = models.CharField(max_length=32)
    told_at = models.DateTimeField(null=True)

    class Meta:
        indexes = (
            models.Index(fields=["at"], condition=Q(told_at__isnull=True), name="approval_use_untold"),
        )

    def __str__(self) -> str:
        return f"{self.approval_id} #{self.number}"


class Execution(models.Model):
    """What a service key says that it did, and how that compares with its approval's plan. Written once."""

    id = models.CharField(primary_key=True, max_length=32, default=new_execution_id, editable=False)
    organization_id = models.CharField(max_length=32)
    key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, related_name="executions", db_index=False)
    execution = models.CharField(max_length=128, db_collation="C")
    approval = models.ForeignKey(
        Approval, null=True, blank=True, on_delete=models.PROTECT, related_name="executions"
    )
    incident = models.CharField(max_length=128, blank=True, db_collation="C")
    request_id = models.CharField(max_length=128, blank=True, db_collation="C")
    steps = models.JSONField()
    parameters_digest = models.CharField(max_length=64, db_collation="C")
    verdict = models.CharField(max_length=8, choices=[(each.value, each.value) for each in Parity])
    recorded_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes = (
            models.Index(
                fields=["organization_id", "incident"],
                condition=~Q(incident=""),
                name="execution_by_incident",
            ),
            models.Index(
                fields=["organization_id", "request_id"],
                condition=~Q(request_id=""),
                name="execution_by_request",
            ),
        )
        constraints = (
            models.UniqueConstraint(fields=["key", "execution"], name="execution_once"),
            models.CheckConstraint(condition=Q(parameters_digest__regex=DIGEST), name="execution_digest"),
        )

    def __str__(self) -> str:
        return self.id

    @property
    def done(self) -> list[Step]:
        """The steps that were done."""
        return [Step(each["name"], each["digest"]) for each in self.steps]
