"""Django's `migrate`, through the login that may change tables."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.commands.migrate import Command as MigrateCommand
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from portal import database_roles


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
        _let_the_application_queue(connections["default"])


def _let_the_application_queue(owner: BaseDatabaseWrapper) -> None:
    """Grant the queue's functions to the application: nobody may run a function unless told (`database_roles`).

    After each run, because a newer release of the queue brings functions of its own.
    """
    with owner.cursor() as cursor:
        cursor.execute(
            "SELECT p.oid::regprocedure::text FROM pg_proc p"
            " WHERE p.pronamespace = 'public'::regnamespace AND starts_with(p.proname, 'procrastinate_')"
        )
        for (function,) in cursor.fetchall():
            cursor.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {database_roles.APP}")
