"""The ledger's tables as Django reads them. Only `audit.ledger` writes, through functions of the database."""

from django.db import models
from django.db.models.expressions import RawSQL

from audit import entry as entry_rules


class EntryQuerySet(models.QuerySet["Entry"]):
    """What the security log asks; each filter is an index led by the organization."""

    def of(self, organization_id: str) -> "EntryQuerySet":
        """Narrow to one organization's ledger."""
        return self.filter(organization_id=organization_id)

    def newest_first(self) -> "EntryQuerySet":
        """Order as the log is read."""
        return self.order_by("-epoch", "-index")

    def oldest_first(self) -> "EntryQuerySet":
        """Order as it was written."""
        return self.order_by("epoch", "index")

    def after(self, epoch: int, index: int) -> "EntryQuerySet":
        """Narrow to what stands after an entry."""
        return self.filter(_compared(">", epoch, index))

    def before(self, epoch: int, index: int) -> "EntryQuerySet":
        """Narrow to what stands before an entry (keyset paging)."""
        return self.filter(_compared("<", epoch, index))


def _compared(operator: str, epoch: int, index: int) -> RawSQL:
    """Compare places as rows: PostgreSQL begins there in the index, where an OR would have it read all up to there."""
    place = "(audit_entry.epoch, audit_entry.index)"
    return RawSQL(f"{place} {operator} (%s, %s)", [epoch, index], output_field=models.BooleanField())  # noqa: S611


class Entry(models.Model):
    """One entry: its leaf bytes, which alone are authority, and their projection for searches."""

    pk = models.CompositePrimaryKey("organization_id", "epoch", "index")
    organization_id = models.CharField(max_length=64)
    epoch = models.SmallIntegerField(default=1)
    index = models.BigIntegerField()
    leaf = models.BinaryField()
    act = models.CharField(max_length=64)
    actor = models.CharField(max_length=64)
    target = models.CharField(max_length=64)
    request_id = models.CharField(max_length=128)
    at = models.DateTimeField()

    objects = EntryQuerySet.as_manager()

    class Meta:
        db_table = "audit_entry"
        managed = False

    def __str__(self) -> str:
        return f"{self.organization_id} {self.index} {self.act}"

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands in its organization's ledger: (epoch, index)."""
        return self.epoch, self.index

    def parsed(self) -> entry_rules.ParsedEntry:
        """Return the entry that the leaf bytes hold; raises `EntryInvalid` where they are no entry."""
        return entry_rules.parse(bytes(self.leaf))

    def leaf_hash(self) -> bytes:
        """Return the RFC 6962 leaf hash, 32 bytes."""
        return entry_rules.leaf_hash(bytes(self.leaf))


class Sealed(models.Model):
    """The opening of one sealed field: erasable, while the entry's commitment stays."""

    pk = models.CompositePrimaryKey("organization_id", "epoch", "index", "field")
    organization_id = models.CharField(max_length=64)
    epoch = models.SmallIntegerField(default=1)
    index = models.BigIntegerField()
    field = models.CharField(max_length=32)
    salt = models.BinaryField()
    value = models.TextField()

    class Meta:
        db_table = "audit_sealed"
        managed = False

    def __str__(self) -> str:
        return f"{self.organization_id} {self.index} {self.field}"


class Head(models.Model):
    """Where a ledger stands. The application's login can't read it: only the functions and the notary do."""

    organization_id = models.CharField(max_length=64, primary_key=True)
    origin = models.CharField(max_length=200)
    epoch = models.SmallIntegerField()
    size = models.BigIntegerField()
    last_hash = models.BinaryField()
    last_at = models.DateTimeField()

    class Meta:
        db_table = "audit_head"
        managed = False

    def __str__(self) -> str:
        return f"{self.origin} {self.size}"
