from datetime import datetime
from typing import Self

from django.db import models
from django.db.models import F, Q

from keys import rotation
from keys.models.key import ApiKey
from orgs import ids


class RotationMode(models.TextChoices):
    IMMEDIATE = "immediate", "immediate"
    GRACE = "grace", "grace"
    STAGED = "staged", "staged"


def new_rotation_id() -> str:
    return ids.new("rot")


class RotationQuerySet(models.QuerySet["Rotation"]):
    def of(self, organization_id: str) -> Self:
        return self.filter(organization_id=organization_id)

    def not_ended(self) -> Self:
        """Narrow to rotations whose end nobody has written down, whatever time has done."""
        return self.filter(completed_at=None, cancelled_at=None, superseded_at=None)

    def running(self, now: datetime) -> Self:
        """Narrow to rotations that are running as of `now`; a revoked key has none."""
        return self.not_ended().filter(grace_ends_at__gt=now, key__revoked_at=None)

    def ended(self, now: datetime) -> Self:
        """Narrow to rotations that are not running as of `now`."""
        ends = Q(completed_at__isnull=False) | Q(cancelled_at__isnull=False) | Q(superseded_at__isnull=False)
        return self.filter(ends | Q(grace_ends_at__lte=now) | Q(key__revoked_at__isnull=False))


class Rotation(models.Model):
    """One rotation of a key. Whether it is running is computed from time: no job ends it.

    `grace_ends_at` is when the old secret stops by itself, in every mode: a staged rotation's at its own expiry, or
    never (`keys.rotation.NO_END`). What ended it is written once: at most one of the three times. `held_at`: the key
    could not be used then, so that silence counts from later on.

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
    quiet_seconds = models.PositiveIntegerField(null=True, blank=True)
    deadline = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    completed_by = models.CharField(max_length=32, blank=True)
    cancelled_at = models.DateTimeField(null=True, blank=True)
    cancelled_by = models.CharField(max_length=32, blank=True)
    superseded_at = models.DateTimeField(null=True, blank=True)
    overdue_at = models.DateTimeField(null=True, blank=True)
    held_at = models.DateTimeField(null=True, blank=True)
    sealed_secret = models.BinaryField(null=True, max_length=512)
    sealed_to = models.CharField(max_length=32, blank=True, db_default="")

    objects = RotationQuerySet.as_manager()

    class Meta:
        ordering = ("-started_at", "-new_version")
        constraints = (
            models.UniqueConstraint(fields=["key", "new_version"], name="rotation_one_successor"),
            models.CheckConstraint(condition=Q(new_version__gt=F("old_version")), name="rotation_grows"),
            models.UniqueConstraint(
                fields=["key"],
                condition=Q(completed_at=None, cancelled_at=None, superseded_at=None),
                name="rotation_one_at_a_time",
            ),
            models.CheckConstraint(
                condition=Q(completed_at=None, cancelled_at=None)
                | Q(completed_at=None, superseded_at=None)
                | Q(cancelled_at=None, superseded_at=None),
                name="rotation_one_end",
            ),
            models.CheckConstraint(
                condition=Q(
                    mode="staged", quiet_seconds__gte=1, quiet_seconds__lte=86_400, deadline__isnull=False
                )
                | (~Q(mode="staged") & Q(quiet_seconds=None, deadline=None, overdue_at=None)),
                name="rotation_staged_whole",
            ),
        )
        indexes = (models.Index(fields=["organization_id", "-started_at", "-id"], name="rotation_by_start"),)

    def __str__(self) -> str:
        return f"{self.key_id} v{self.old_version} → v{self.new_version}"

    @property
    def course(self) -> rotation.Course:
        """Its times; read with its key, whose revocation ends it."""
        revoked_at = self.key.revoked_at
        ends = [at for at in (self.superseded_at, revoked_at) if at is not None]
        return rotation.Course(
            ends_at=self.grace_ends_at,
            completed_at=self.completed_at,
            cancelled_at=self.cancelled_at,
            superseded_at=min(ends, default=None),
        )

    def state(self, now: datetime) -> rotation.State:
        """Return what it has come to, as of `now`."""
        return rotation.state(self.course, now)

    def is_running(self, now: datetime) -> bool:
        return self.state(now) is rotation.State.RUNNING

    def is_overdue(self, now: datetime) -> bool:
        return rotation.is_overdue(self.course, self.deadline, now)

    @property
    def stops_at(self) -> datetime | None:
        """When the old secret stops by itself; None where it has no end of its own."""
        return None if self.grace_ends_at >= rotation.NO_END else self.grace_ends_at

    @property
    def watch(self) -> rotation.Watch:
        """By what a staged rotation is judged."""
        times = (self.started_at, self.held_at, self.key.disabled_until)
        since = max(at for at in times if at is not None)
        return rotation.Watch(since=since, quiet_seconds=self.quiet_seconds or 0)


class RotationTarget(models.Model):
    """A target of a staged rotation. `moved_at`: when it was first found to have moved, and told of, once."""

    pk = models.CompositePrimaryKey("rotation_id", "name")
    rotation = models.ForeignKey(Rotation, on_delete=models.PROTECT, related_name="targets", db_index=False)
    name = models.CharField(max_length=64, db_collation="C")
    organization_id = models.CharField(max_length=32)
    position = models.PositiveSmallIntegerField()
    moved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("position",)

    def __str__(self) -> str:
        return self.name


class RotationSeen(models.Model):
    """When the secrets of a rotation were last used in a target, or outside all of them (`name` ""). Kept for good.

    Written with the roll-up of usage alone, and at the rotation's start, as `RotationUse` is.
    """

    pk = models.CompositePrimaryKey("rotation_id", "name")
    rotation_id = models.CharField(max_length=32)
    name = models.CharField(max_length=64)
    organization_id = models.CharField(max_length=32)
    old_last_used_at = models.DateTimeField(null=True)
    new_last_used_at = models.DateTimeField(null=True)

    class Meta:
        managed = False
        db_table = "keys_rotationseen"

    def __str__(self) -> str:
        return f"{self.rotation_id} {self.name}"


class RotationUse(models.Model):
    """Calls of a running rotation by minute, for an hour: of the old secret by who made them, of the new one together.

    `is_other`: of more sources than a minute keeps apart.
    """

    pk = models.CompositePrimaryKey("rotation_id", "minute", "is_new", "name", "source")
    rotation_id = models.CharField(max_length=32)
    minute = models.DateTimeField()
    is_new = models.BooleanField()
    name = models.CharField(max_length=64)
    source = models.CharField(max_length=320)
    organization_id = models.CharField(max_length=32)
    ip = models.GenericIPAddressField(null=True)
    user_agent = models.CharField(max_length=256)
    is_other = models.BooleanField()
    calls = models.BigIntegerField()
    last_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "keys_rotationuse"

    def __str__(self) -> str:
        return f"{self.rotation_id} {self.minute}"
