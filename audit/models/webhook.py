"""Webhooks: endpoints, their secrets, what they are to hear of, and each attempt to tell them."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q


class Why(models.TextChoices):
    """Why an endpoint is disabled."""

    NOT = "", "not disabled"
    PERSON = "person", "somebody disabled it"
    GONE = "gone", "it answered 410 Gone"
    FAILING = "failing", "ten attempts over three days failed"


class DeliveryState(models.TextChoices):
    """How a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Endpoint(models.Model):
    """Where entries of one organization's ledger go. The cursor is the last entry that was looked at for it."""

    id = models.CharField(primary_key=True, max_length=64)
    organization_id = models.CharField(max_length=64)
    url = models.CharField(max_length=2048)
    description = models.CharField(max_length=200, blank=True, default="")
    acts = ArrayField(models.CharField(max_length=64))
    disabled_at = models.DateTimeField(null=True)
    disabled_reason = models.CharField(max_length=16, choices=Why, blank=True, default=Why.NOT)
    cursor_epoch = models.SmallIntegerField()
    cursor_index = models.BigIntegerField()
    failing_since = models.DateTimeField(null=True)
    last_delivered_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=64)
    updated_at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["organization_id", "id"], name="endpoint_of_organization")]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(disabled_at__isnull=True, disabled_reason="")
                | Q(disabled_at__isnull=False) & ~Q(disabled_reason=""),
                name="endpoint_disabled_for_a_reason",
            ),
            models.CheckConstraint(condition=Q(acts__len__gt=0), name="endpoint_has_acts"),
        ]

    def __str__(self) -> str:
        return self.id

    @property
    def host(self) -> str:
        """The URL without its path, which may be as good as a password: what lists and entries show."""
        return "/".join(self.url.split("/", 3)[:3])

    @property
    def is_disabled(self) -> bool:
        """Whether nothing is sent."""
        return self.disabled_at is not None

    @property
    def status(self) -> str:
        """`active`, `failing` or `disabled`."""
        if self.is_disabled:
            return "disabled"
        return "failing" if self.failing_since else "active"


class EndpointSecret(models.Model):
    """A secret that signs, encrypted. The newest has no end; one before it signs until its `signs_until`."""

    pk = models.CompositePrimaryKey("endpoint", "version")
    endpoint = models.ForeignKey(Endpoint, on_delete=models.DB_CASCADE, related_name="secrets")
    organization_id = models.CharField(max_length=64)
    version = models.IntegerField()
    sealed = models.BinaryField()
    created_at = models.DateTimeField()
    signs_until = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["endpoint"],
                condition=Q(signs_until__isnull=True),
                name="endpoint_has_one_newest_secret",
            )
        ]

    def __str__(self) -> str:
        return f"{self.endpoint_id} {self.version}"


class Delivery(models.Model):
    """An entry for an endpoint, or a test event (without a place). Its id is the `webhook-id`.

    `attempts` counts those of the running round: a resend begins a new one. `claim` is the attempt that runs now;
    until `next_attempt_at` it is nobody else's.
    """

    id = models.CharField(primary_key=True, max_length=64)
    organization_id = models.CharField(max_length=64)
    endpoint = models.ForeignKey(
        Endpoint, on_delete=models.DB_CASCADE, related_name="deliveries", db_index=False
    )
    epoch = models.SmallIntegerField(null=True)
    index = models.BigIntegerField(null=True)
    act = models.CharField(max_length=64)
    asked_by = models.CharField(max_length=64, blank=True, default="")
    created_at = models.DateTimeField()
    state = models.CharField(max_length=16, choices=DeliveryState, default=DeliveryState.PENDING)
    attempts = models.SmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True)
    claim = models.CharField(max_length=32, blank=True, default="")
    finished_at = models.DateTimeField(null=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["endpoint", "-created_at", "-id"], name="delivery_newest_first"),
            models.Index(
                fields=["endpoint", "next_attempt_at"], condition=Q(state="pending"), name="delivery_due"
            ),
            models.Index(
                fields=["finished_at"], condition=Q(finished_at__isnull=False), name="delivery_finished"
            ),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["endpoint", "epoch", "index"], name="delivery_once_per_entry"),
            models.CheckConstraint(
                condition=Q(state="pending", next_attempt_at__isnull=False, finished_at__isnull=True)
                | Q(
                    state__in=["delivered", "failed"], next_attempt_at__isnull=True, finished_at__isnull=False
                ),
                name="delivery_state",
            ),
            models.CheckConstraint(
                condition=Q(epoch__isnull=False, index__isnull=False)
                | Q(epoch__isnull=True, index__isnull=True),
                name="delivery_place_or_test",
            ),
        ]

    def __str__(self) -> str:
        return self.id

    @property
    def place(self) -> tuple[int, int] | None:
        """Where its entry stands in the ledger: (epoch, index); None for a test event."""
        return None if self.epoch is None or self.index is None else (self.epoch, self.index)

    @property
    def is_running(self) -> bool:
        """Whether an attempt is being made, as far as is known."""
        return bool(self.claim) and self.state == DeliveryState.PENDING


class Attempt(models.Model):
    """One attempt and what came back: `text` is the first kilobyte, a stranger's words."""

    id = models.BigAutoField(primary_key=True)
    delivery = models.ForeignKey(Delivery, on_delete=models.DB_CASCADE, related_name="tries", db_index=False)
    organization_id = models.CharField(max_length=64)
    at = models.DateTimeField()
    duration_ms = models.IntegerField()
    outcome = models.CharField(max_length=32)
    status = models.SmallIntegerField(null=True)
    detail = models.CharField(max_length=300, blank=True, default="")
    text = models.CharField(max_length=1100, blank=True, default="")

    class Meta:
        ordering: ClassVar = ["id"]
        # Its backward end is the last attempt of a delivery.
        indexes: ClassVar = [models.Index(fields=["delivery", "id"], name="attempt_of_delivery")]

    def __str__(self) -> str:
        return f"{self.delivery_id} {self.at}"
