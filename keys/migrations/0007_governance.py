"""Approvals and executions of service keys."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("keys", "0006_expiry")]
    operations = []
