from django.db import models

from keys.models.key import ApiKey
from orgs import ids
from orgs.models import Organization


class IncidentKind(models.TextChoices):
    BREAK_GLASS = "breakglass", "Break-glass"
    LEAK = "leak", "Leak"


def new_incident_id() -> str:
    return ids.new("inc")


class Incident(models.Model):
    """What was stopped together, and why. Written once, with what it tells of, and never changed.

    `filter`: what a break-glass was narrowed to, as it was asked. `source` and `url`: who found a leak, and where.
    """

    id = models.CharField(primary_key=True, max_length=32, default=new_incident_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    kind = models.CharField(max_length=16, choices=IncidentKind)
    reason = models.TextField(blank=True)
    source = models.CharField(max_length=64, blank=True)
    url = models.CharField(max_length=2_048, blank=True)
    filter = models.JSONField(default=dict, blank=True)
    opened_at = models.DateTimeField()
    opened_by = models.CharField(max_length=64)

    class Meta:
        indexes = (models.Index(fields=["organization", "-opened_at", "-id"], name="incident_by_time"),)

    def __str__(self) -> str:
        return self.id


class IncidentKey(models.Model):
    """A key of an incident, with what was known of its use when the incident was opened.

    `calls_24h`: calls in the 24 hours before, whatever became of them; None where they could not be counted in time.
    """

    pk = models.CompositePrimaryKey("incident", "key")
    incident = models.ForeignKey(
        Incident, on_delete=models.PROTECT, related_name="keys", db_constraint=False, db_index=False
    )
    key = models.ForeignKey(
        ApiKey, on_delete=models.PROTECT, related_name="incidents", db_constraint=False, db_index=False
    )
    organization_id = models.CharField(max_length=32)
    calls_24h = models.BigIntegerField(null=True)
    last_used_at = models.DateTimeField(null=True)
    last_used_ip = models.GenericIPAddressField(null=True)

    class Meta:
        indexes = (models.Index(fields=["key", "incident"], name="incident_of_key"),)

    def __str__(self) -> str:
        return f"{self.incident_id} {self.key_id}"
