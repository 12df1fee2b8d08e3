"""Leaks, and the networks that a key is known from."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("keys", "0008_incidents")]
    operations = []
