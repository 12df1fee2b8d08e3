"""The first superuser, made as every other person is: through the service, with an entry in the operator's ledger."""

import getpass
import sys
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_email

from audit import tenancy
from audit.actors import Actor
from orgs import services
from orgs.errors import OrgsError
from orgs.models import Organization

COMMAND = Actor.system("command")


class Command(BaseCommand):
    """Make a superuser who owns the operator's organization."""

    help = (
        "Make a superuser. The password is asked for, or read from standard input where that is no terminal."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--name", default="")

    def handle(self, *args: Any, email: str, name: str, **options: Any) -> None:  # noqa: ARG002
        password = getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
        try:
            validate_email(email)
            validate_password(password)
            user = services.create_user(email, actor=COMMAND, name=name, password=password, is_superuser=True)
            with tenancy.everywhere(tenancy.Reason.COMMAND):
                operator = Organization.objects.get(is_operator=True)
            services.appoint_owner(operator, user, actor=COMMAND)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        except OrgsError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{email} may sign in and use the admin site.")
