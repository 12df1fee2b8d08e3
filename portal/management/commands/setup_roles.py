"""Print or run the SQL that makes the database's roles (spec LEDGER, “Holding it”)."""

import os
import secrets
import shlex
from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any

import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from portal import database_roles
from portal.dsn import DsnError, parse


class Command(BaseCommand):
    help = (
        "Prints the SQL that makes the database's roles and rights, for psql as a superuser; --run runs it. "
        "A login's password is the one in its URL (DATABASE_URL and its siblings); where there is none, "
        "it is drawn and shown once."
    )
    requires_system_checks = []  # noqa: RUF012 - BaseCommand declares it so

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--run", action="store_true", help="run the SQL instead of printing it")
        parser.add_argument(
            "--superuser-url",
            default=os.environ.get("DATABASE_SUPERUSER_URL", ""),
            help="postgres://…; else DATABASE_SUPERUSER_URL, which other users of the machine can't see",
        )
        parser.add_argument(
            "--database", default="", help="the database's name; else the one of DATABASE_URL"
        )

    def handle(self, *, run: bool, superuser_url: str, database: str, **_options: Any) -> None:
        database = database or settings.DATABASES["default"]["NAME"]
        known = configured_passwords()
        passwords = {login: known.get(login) or secrets.token_urlsafe(24) for login in database_roles.LOGINS}
        try:
            if run:
                self._run(superuser_url, database, passwords)
            else:
                self.stdout.write(script(database, passwords))
        except (DsnError, ValueError, psycopg.Error) as error:
            raise CommandError(" ".join(str(error).split())) from error
        drawn = {login for login in passwords if login not in known}
        self._show(
            superuser_url or os.environ.get("DATABASE_URL") or "postgres:///postgres",
            database,
            passwords,
            drawn,
        )

    def _run(self, superuser_url: str, database: str, passwords: dict[str, str]) -> None:
        if not superuser_url:
            raise CommandError("--run needs --superuser-url, or DATABASE_SUPERUSER_URL in the environment.")
        database_roles.set_up(superuser_url, database, passwords)

    def _show(self, url: str, database: str, passwords: dict[str, str], drawn: set[str]) -> None:
        """Write the URLs whose passwords were drawn here, to stderr: stdout may go to a file."""
        urls = database_roles.login_urls(url, database, passwords)
        lines = [
            f"{variable}={shlex.quote(urls[variable])}"
            for login, variable in database_roles.URLS.items()
            if login in drawn
        ]
        if lines:
            self.stderr.write(
                "Passwords drawn now and kept nowhere; put these lines where the services find them:"
            )
            self.stderr.write("\n".join(lines))


def configured_passwords() -> dict[str, str]:
    """Return login → password for each URL of the environment that names its role. Secret."""
    found = {}
    for login, variable in database_roles.URLS.items():
        if url := os.environ.get(variable):
            entry = parse(url, variable)
            if entry["USER"] == login and entry["PASSWORD"]:
                found[login] = entry["PASSWORD"]
    return found


def script(database: str, passwords: dict[str, str]) -> str:
    """Return the whole SQL as a psql script, which stops at the first error."""
    name = database_roles.quoted(database)
    quiet = "SET client_min_messages = warning;"
    literal = database.replace("'", "''")
    parts = [
        "\\set ON_ERROR_STOP on",
        quiet,
        *_transaction(database_roles.server_statements(passwords)),
        f"SELECT 'CREATE DATABASE {name.replace("'", "''")} TEMPLATE template0 ENCODING ''UTF8'''",
        f"    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = '{literal}') \\gexec",
        *_transaction(database_roles.database_statements(database)),
        f"\\connect {name}",
        quiet,
        *_transaction(database_roles.schema_statements()),
    ]
    return "\n".join(parts)


def _transaction(statements: Iterable[str]) -> list[str]:
    return ["BEGIN;", *(f"{statement};" for statement in statements), "COMMIT;"]
