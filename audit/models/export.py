"""Exports of the security log: what was asked for, how far it is, and its bytes, in parts, for a day."""

from datetime import datetime
from typing import ClassVar

from django.db import models
from django.db.models import Q


class Format(models.TextChoices):
    """What an export is for."""

    BUNDLE = "bundle", "Offline bundle"
    CSV = "csv", "CSV"
    JSONL = "jsonl", "JSON lines"


class ExportState(models.TextChoices):
    """How an export stands."""

    QUEUED = "queued"
    RUNNING = "running"
    READY = "ready"
    FAILED = "failed"


class Export(models.Model):
    """One export. It has bytes while it is ready, and is gone at `expires_at` whatever its state.

    `claim` is the one run that may write: a run that finds another there ends. `done` of `total` entries were looked
    through; `entries` counts those that are in it. `reason` says in words why it failed, or what it waits for.
    """

    id = models.CharField(primary_key=True, max_length=64)
    organization_id = models.CharField(max_length=64)
    format = models.CharField(max_length=16, choices=Format)
    filters = models.JSONField(default=dict)
    epoch = models.SmallIntegerField(null=True)
    old_note = models.TextField(blank=True, default="")
    state = models.CharField(max_length=16, choices=ExportState, default=ExportState.QUEUED)
    reason = models.CharField(max_length=300, blank=True, default="")
    claim = models.CharField(max_length=32, blank=True, default="")
    attempts = models.SmallIntegerField(default=0)
    done = models.BigIntegerField(default=0)
    total = models.BigIntegerField(default=0)
    entries = models.BigIntegerField(default=0)
    size = models.BigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, blank=True, default="")
    asked_by = models.CharField(max_length=64)
    asked_name = models.CharField(max_length=200, blank=True, default="")
    created_at = models.DateTimeField()
    ready_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["organization_id", "-created_at"], name="export_newest_first"),
            models.Index(fields=["expires_at"], name="export_over"),
            models.Index(
                fields=["id"], condition=Q(state__in=["queued", "running"]), name="export_unfinished"
            ),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(state="ready", ready_at__isnull=False, claim="") & ~Q(sha256="")
                | Q(state="running", ready_at__isnull=True, sha256="") & ~Q(claim="")
                | Q(state__in=["queued", "failed"], claim="", sha256=""),
                name="export_state",
            )
        ]

    def __str__(self) -> str:
        return self.id

    @property
    def is_unfinished(self) -> bool:
        """Whether a worker has yet to make it, or does now."""
        return self.state in {ExportState.QUEUED, ExportState.RUNNING}

    @property
    def is_ready(self) -> bool:
        """Whether its bytes are there."""
        return self.state == ExportState.READY

    @property
    def percent(self) -> float:
        """How much of the log was looked through, 0 to 100."""
        return min(100.0, 100 * self.done / self.total) if self.total else 0.0

    def has_expired(self, now: datetime) -> bool:
        """Whether its day is over; the job that deletes it may not have come by yet."""
        return now >= self.expires_at


class ExportPart(models.Model):
    """A piece of an export's bytes; `number` counts from 0."""

    pk = models.CompositePrimaryKey("export", "number")
    export = models.ForeignKey(Export, on_delete=models.DB_CASCADE, related_name="parts", db_index=False)
    organization_id = models.CharField(max_length=64)
    number = models.IntegerField()
    piece = models.BinaryField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["organization_id"], name="exportpart_of_organization")]

    def __str__(self) -> str:
        return f"{self.export_id} {self.number}"
