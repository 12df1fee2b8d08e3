"""Staged rotations: their targets, and evidence for each."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("keys", "0004_narrowing")]
    operations = []
