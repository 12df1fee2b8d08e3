"""How many digests are left under each pepper, so that an old one can be taken out of service."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db.models import Count

from audit import tenancy
from keys import peppers
from keys.models import KeySecret


class Command(BaseCommand):
    """Count secrets by pepper version, over every organization."""

    help = "Report how many secrets are under each pepper; verification moves a used one to the newest."

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ARG002
        with tenancy.everywhere(tenancy.Reason.COMMAND):
            counted = (
                KeySecret.objects.order_by("pepper_version")
                .values_list("pepper_version")
                .annotate(Count("digest"))
            )
            counts = dict(counted)
        for version in sorted(set(settings.KEY_PEPPERS) | set(counts)):
            self.stdout.write(f"pepper {version}: {counts.get(version, 0)} secrets{_remark(version)}")


def _remark(version: int) -> str:
    if version == peppers.newest():
        return " (newest)"
    return "" if version in settings.KEY_PEPPERS else " (not configured: these can't be verified)"
