"""Django's `migrate`, through the login that may change tables."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.commands.migrate import Command as MigrateCommand
from django.db import connections


class Command(MigrateCommand):
    """Run migrations as the owner: the application's login owns no table.

    The owner's login takes the default connection's place for this process, so that third-party data migrations,
    which name no connection, run in the migration's own transaction.
    """

    def handle(self, *args: Any, **options: Any) -> None:
        if "migrate" not in connections.settings:
            raise ImproperlyConfigured("DATABASE_MIGRATE_URL is not set; migrations need the owner's login.")
        connections["default"].close()
        del connections["default"]
        connections.settings["default"] = connections.settings["migrate"]
        super().handle(*args, **options)
