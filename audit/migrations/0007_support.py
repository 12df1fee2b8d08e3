"""To be filled in."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("audit", "0006_exports")]
    operations = []
