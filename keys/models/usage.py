from django.db import models


class Call(models.Model):
    """One answered verification of a known key (or, reported by an SDK's cache, `calls` like ones). Partitioned by day.

    Written by verification alone, before it answers. `xid` is the writing transaction's: roll-ups go by it, so that
    each call is counted once however late its transaction commits.
    """

    pk = models.CompositePrimaryKey("key_id", "at", "xid")
    at = models.DateTimeField()
    organization_id = models.CharField(max_length=32)
    key_id = models.CharField(max_length=32)
    version = models.PositiveIntegerField()
    code = models.CharField(max_length=32)
    endpoint = models.CharField(max_length=256)
    region = models.CharField(max_length=64)
    ip = models.GenericIPAddressField(null=True)
    user_agent = models.CharField(max_length=256)
    request_id = models.CharField(max_length=128)
    cost = models.PositiveIntegerField()
    calls = models.PositiveIntegerField()
    trace = models.JSONField(null=True)
    verifier_id = models.CharField(max_length=32)
    xid = models.BigIntegerField()
    # Of the trace, by itself for its index.
    incident = models.CharField(max_length=128)

    class Meta:
        managed = False
        db_table = "keys_call"

    def __str__(self) -> str:
        return f"{self.key_id} {self.at}"


class Grain(models.TextChoices):
    """How wide a bucket of the roll-ups is."""

    MINUTE = "m", "minute"
    HOUR = "h", "hour"
    DAY = "d", "day"


class Usage(models.Model):
    """Calls counted by bucket of time; `at` is its start. Written by the roll-up's function alone."""

    pk = models.CompositePrimaryKey("organization_id", "grain", "at", "key_id", "endpoint", "region", "code")
    organization_id = models.CharField(max_length=32)
    grain = models.CharField(max_length=1, choices=Grain)
    at = models.DateTimeField()
    key_id = models.CharField(max_length=32)
    endpoint = models.CharField(max_length=256)
    region = models.CharField(max_length=64)
    code = models.CharField(max_length=32)
    calls = models.BigIntegerField()
    cost = models.BigIntegerField()

    class Meta:
        managed = False
        db_table = "keys_usage"

    def __str__(self) -> str:
        return f"{self.key_id} {self.grain} {self.at}"


class UnknownCalls(models.Model):
    """Calls with unknown or malformed secrets, by verifier's organization, minute and network (or `other`)."""

    pk = models.CompositePrimaryKey("organization_id", "minute", "network", "code")
    organization_id = models.CharField(max_length=32)
    minute = models.DateTimeField()
    network = models.CharField(max_length=43)
    code = models.CharField(max_length=32)
    calls = models.BigIntegerField()

    class Meta:
        managed = False
        db_table = "keys_unknowncalls"

    def __str__(self) -> str:
        return f"{self.network} {self.minute}"


class ScopeUse(models.Model):
    """The last day (UTC) on which a valid call asked a key for a scope."""

    pk = models.CompositePrimaryKey("key_id", "scope")
    key_id = models.CharField(max_length=32)
    scope = models.CharField(max_length=65)
    organization_id = models.CharField(max_length=32)
    last_used_on = models.DateField()

    class Meta:
        managed = False
        db_table = "keys_scopeuse"

    def __str__(self) -> str:
        return f"{self.key_id} {self.scope}"
