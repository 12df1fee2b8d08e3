"""Erasures of personal data: how far each has come."""

from django.contrib.postgres.fields import ArrayField
from django.db import models


class Erasure(models.Model):
    """One person's data on its way out of one ledger, entry by entry. Its id stands in the entries that tell of it.

    `person_id` is empty for somebody who never had an account. `addresses` are looked for; they go with the end.
    """

    id = models.CharField(primary_key=True, max_length=64)
    organization_id = models.CharField(max_length=64)
    person_id = models.CharField(max_length=64, blank=True, default="")
    addresses = ArrayField(models.CharField(max_length=254), default=list)
    with_notes = models.BooleanField()
    asked_by = models.CharField(max_length=64)
    # The last entry that was looked at. -1 stands before the first.
    epoch = models.SmallIntegerField(default=1)
    index = models.BigIntegerField(default=-1)
    entries = models.BigIntegerField(default=0)
    fields = models.BigIntegerField(default=0)
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "audit_erasure"
        indexes = (
            models.Index(
                fields=["created_at"], condition=models.Q(finished_at__isnull=True), name="erasure_running"
            ),
        )

    def __str__(self) -> str:
        return self.id
