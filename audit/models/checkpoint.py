"""What the notary signed, as Django reads it. Only the notary's process writes here."""

from django.db import models


class CheckpointQuerySet(models.QuerySet["Checkpoint"]):
    """What proofs, pages and the API ask; by the primary key's index."""

    def of(self, organization_id: str) -> "CheckpointQuerySet":
        """Narrow to one organization's ledger."""
        return self.filter(organization_id=organization_id)

    def newest(self) -> "Checkpoint | None":
        """Return the checkpoint that covers the most; of the newest epoch."""
        return self.order_by("-epoch", "-size").first()


class Checkpoint(models.Model):
    """A signed statement of a ledger's size and root (spec LEDGER, Bytes 6 and 7). `note` is the signed text."""

    pk = models.CompositePrimaryKey("organization_id", "epoch", "size")
    organization_id = models.CharField(max_length=64)
    epoch = models.SmallIntegerField()
    size = models.BigIntegerField()
    root = models.BinaryField()
    note = models.TextField()
    signed_at = models.DateTimeField()
    published_at = models.DateTimeField()

    objects = CheckpointQuerySet.as_manager()

    class Meta:
        db_table = "audit_checkpoint"
        managed = False

    def __str__(self) -> str:
        return f"{self.organization_id} {self.epoch} {self.size}"
