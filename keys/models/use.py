from typing import Final

from django.db import models

from keys.models.key import ApiKey

# What stands for “never used” in an index: then one index serves both directions and “unused since” alike.
NEVER: Final = models.Func(template="'-infinity'::timestamptz", output_field=models.DateTimeField())


def last_used(prefix: str = "") -> models.Case:
    """Return when a key was last used, `NEVER` where it was not, as the index has it; `prefix` as in `use__`.

    Not COALESCE, which is the same: under row-level security the planner uses an index only for what it knows to be
    leakproof, and it knows that of CASE alone.
    """
    name = f"{prefix}last_used_at"
    return models.Case(models.When(**{f"{name}__isnull": True}, then=NEVER), default=models.F(name))


class KeyUse(models.Model):
    """When and from where a key was last used, and what it has spent of its limit and of its tier's quota.

    Written by verification alone, apart from the key's own row, so that an open transaction on a key never stalls a
    verification. `window_start` in seconds since the epoch; `current` and `previous` are the costs of that window of
    `window_seconds` and of the one before; `spent` is the cost of the month `period` (202611).
    """

    key = models.OneToOneField(
        ApiKey, primary_key=True, on_delete=models.PROTECT, related_name="use", db_constraint=False
    )
    organization_id = models.CharField(max_length=32)
    last_used_at = models.DateTimeField(null=True)
    last_used_ip = models.GenericIPAddressField(null=True)
    window_seconds = models.PositiveIntegerField(db_default=0)
    window_start = models.BigIntegerField(db_default=0)
    current = models.BigIntegerField(db_default=0)
    previous = models.BigIntegerField(db_default=0)
    period = models.PositiveIntegerField(db_default=0)
    spent = models.BigIntegerField(db_default=0)

    class Meta:
        indexes = (models.Index("organization_id", last_used(), "key_id", name="key_use_by_time"),)

    def __str__(self) -> str:
        return self.key_id


class SecretUse(models.Model):
    """When one version of a key's secret was last used."""

    pk = models.CompositePrimaryKey("key_id", "version")
    key_id = models.CharField(max_length=32)
    version = models.PositiveIntegerField()
    organization_id = models.CharField(max_length=32)
    last_used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.key_id} v{self.version}"


class OrganizationSpend(models.Model):
    """What an organization has spent of its monthly quota: the cost of the month `period` (202611)."""

    organization_id = models.CharField(primary_key=True, max_length=32)
    period = models.PositiveIntegerField(db_default=0)
    spent = models.BigIntegerField(db_default=0)

    def __str__(self) -> str:
        return f"{self.organization_id} {self.period}"
