from django.db import models


class KeyNetwork(models.Model):
    """A network (IPv4 /24, IPv6 /56) from which valid calls with a key came. Learned by `networks_learn` alone.

    `is_due`: news that nobody has been told yet; `told_at`: when the ledger was. Neither where it was learned silently.
    """

    pk = models.CompositePrimaryKey("key_id", "network")
    key_id = models.CharField(max_length=32)
    network = models.CharField(max_length=43)
    organization_id = models.CharField(max_length=32)
    first_seen_at = models.DateTimeField()
    first_ip = models.GenericIPAddressField()
    first_region = models.CharField(max_length=64)
    last_seen_on = models.DateField()
    is_due = models.BooleanField()
    told_at = models.DateTimeField(null=True)

    class Meta:
        managed = False
        db_table = "keys_keynetwork"

    def __str__(self) -> str:
        return f"{self.key_id} {self.network}"
