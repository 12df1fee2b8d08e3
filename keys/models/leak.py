from django.db import models

from keys.models.key import ApiKey


class LeakAction(models.TextChoices):
    """What an organization does with a key whose secret was found in public."""

    REVOKE = "revoke", "Revoke the key, for good"
    QUARANTINE = "quarantine", "Quarantine it: disabled until somebody enables it"


class LeakSource(models.TextChoices):
    """Who told of a secret that others can read."""

    GITHUB = "github", "GitHub's secret scanning"
    BURNED = "burned", "Whoever held the secret"


class LeakOutcome(models.TextChoices):
    """What a report came to, for the key or for one version of its secret alone."""

    REVOKED = "revoked", "The key was revoked"
    QUARANTINED = "quarantined", "The key was disabled"
    RETIRED = "retired", "The secret was retired"
    NOTHING = "nothing", "The secret was refused already"


class Leak(models.Model):
    """One place at which one version of a key's secret was found. Written once; the same place again is no news."""

    id = models.BigAutoField(primary_key=True)
    organization_id = models.CharField(max_length=32)
    key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, related_name="leaks", db_index=False)
    version = models.PositiveIntegerField()
    source = models.CharField(max_length=16, choices=LeakSource)
    url = models.CharField(max_length=1_000, blank=True)
    place = models.CharField(max_length=64)
    outcome = models.CharField(max_length=16, choices=LeakOutcome)
    incident_id = models.CharField(max_length=32, blank=True)
    found_at = models.DateTimeField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=["key", "version", "place"], name="leak_once"),)

    def __str__(self) -> str:
        return f"{self.key_id} v{self.version}: {self.outcome}"
