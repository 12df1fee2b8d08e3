from django.db import models

from keys import rotation
from keys.models.key import ApiKey


class KeySecret(models.Model):
    """One version of a key's secret: its digest and hint, and nothing else of it, ever.

    An older version is accepted until `accepted_until`; the newest until its own `expires_at`.
    """

    pk = models.CompositePrimaryKey("key", "version")
    key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, related_name="secrets")
    organization_id = models.CharField(max_length=32)
    version = models.PositiveIntegerField()
    digest = models.BinaryField(max_length=32, unique=True)
    pepper_version = models.PositiveSmallIntegerField()
    hint = models.CharField(max_length=4)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    accepted_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-version",)
        indexes = (models.Index(fields=["organization_id", "hint"], name="secret_by_hint"),)

    def __str__(self) -> str:
        return f"{self.key_id} v{self.version}"

    @property
    def as_rule(self) -> rotation.Secret:
        """What the rules of rotation need of it."""
        return rotation.Secret(
            version=self.version,
            created_at=self.created_at,
            expires_at=self.expires_at,
            accepted_until=self.accepted_until,
        )
