from django.db import models


class KeyUse(models.Model):
    """When and from where a key was last used. Written by verification alone, apart from the key's own row,
    so that an open transaction on a key never stalls a verification."""

    key_id = models.CharField(primary_key=True, max_length=32)
    organization_id = models.CharField(max_length=32)
    last_used_at = models.DateTimeField(null=True)
    last_used_ip = models.GenericIPAddressField(null=True)

    class Meta:
        indexes = (
            models.Index(
                models.F("organization_id"),
                models.F("last_used_at").desc(nulls_last=True),
                models.F("key_id").desc(),
                name="key_use_recent",
            ),
        )

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
