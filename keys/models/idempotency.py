from django.db import models


class IdempotencyRecord(models.Model):
    """The first answer to a POST with an `Idempotency-Key`, kept for 24 h, without the secret that it showed."""

    id = models.BigAutoField(primary_key=True)
    organization_id = models.CharField(max_length=32)
    caller = models.CharField(max_length=32)
    key_digest = models.BinaryField(max_length=32)
    request_digest = models.BinaryField(max_length=32)
    status = models.PositiveSmallIntegerField()
    answer = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["caller", "key_digest"], name="idempotency_key_unique"),
        )

    def __str__(self) -> str:
        return f"{self.caller} {self.id}"
