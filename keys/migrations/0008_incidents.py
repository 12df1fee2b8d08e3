"""Incidents: what was revoked together, and why."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("keys", "0007_governance")]
    operations = []
