"""Notices of expiry, and recipients of what rotates by itself."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("keys", "0005_staged_rotation")]
    operations = []
