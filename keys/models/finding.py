from django.db import models


class Finding(models.TextChoices):
    """What was found about a running key when it was last looked at: what no index answers (`keys.tasks.health`)."""

    MANY_REFUSED = "refused", "Refused often"
    REGIONS = "regions", "Used in several regions"
    NETWORKS = "networks", "Used from many networks"
    UNUSED_SCOPES = "unused_scopes", "Unused scopes"
    NO_OWNER = "no_owner", "Nobody answers for it"
    ABOVE_PLAN = "above_plan", "Limit above the plan"


class KeyFinding(models.Model):
    """One finding about one key. Written by the worker; found by equality, as an index under row security needs it."""

    pk = models.CompositePrimaryKey("organization_id", "finding", "key_id")
    organization_id = models.CharField(max_length=32)
    finding = models.CharField(max_length=16, choices=Finding)
    key_id = models.CharField(max_length=32)

    class Meta:
        managed = False
        db_table = "keys_keyfinding"

    def __str__(self) -> str:
        return f"{self.key_id} {self.finding}"


class HealthRun(models.Model):
    """When an organization's keys were last looked at: all of them, and those that were used or changed since."""

    organization_id = models.CharField(primary_key=True, max_length=32)
    looked_at = models.DateTimeField()
    looked_at_all_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "keys_healthrun"

    def __str__(self) -> str:
        return self.organization_id
