from django.db import models


class What(models.TextChoices):
    """What a key is looked at for."""

    EXPIRY = "expiry"
    ROTATION = "rotation"


class KeyDue(models.Model):
    """When the worker looks at a key next: triggers say "now" whenever something changed, the job says when then.

    A key without a row has nothing to come. A row that is too early costs a look; what is due is computed afresh.
    """

    pk = models.CompositePrimaryKey("key_id", "what")
    key_id = models.CharField(max_length=32)
    what = models.CharField(max_length=8, choices=What)
    organization_id = models.CharField(max_length=32)
    due_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "keys_due"

    def __str__(self) -> str:
        return f"{self.key_id} {self.what}"


class Notice(models.Model):
    """What the ledger has said by itself of one version of a key's secret, so that it says it once.

    `days` before `about` (the expiry, or the time a rotation was due); 0 for what happened at that time. With
    `is_told` false there is no entry: a nearer threshold had passed as well.
    """

    pk = models.CompositePrimaryKey("key_id", "version", "act", "days", "about")
    key_id = models.CharField(max_length=32)
    version = models.PositiveIntegerField()
    act = models.CharField(max_length=24)
    days = models.PositiveSmallIntegerField()
    about = models.DateTimeField()
    organization_id = models.CharField(max_length=32)
    at = models.DateTimeField()
    is_told = models.BooleanField()

    class Meta:
        managed = False
        db_table = "keys_notice"

    def __str__(self) -> str:
        return f"{self.key_id} v{self.version} {self.act} {self.days}"
