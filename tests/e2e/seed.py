"""Run with another database's environment: makes one organization with an administrator's key, prints it as JSON."""

import json
import sys

import django

django.setup()

from audit import tenancy  # noqa: E402
from keys import callers, services  # noqa: E402
from keys.models import Scope  # noqa: E402
from keys.secret import Kind  # noqa: E402
from tests import builders  # noqa: E402


def main() -> None:
    """Make the organization and print its id and the key's secret."""
    owner = builders.person("Owner")
    made = builders.organization("Outage", owner=owner)
    caller = callers.of_member(builders.member(owner, made))
    scopes = [name for name in Scope.objects.values_list("pk", flat=True) if name != "keys:breakglass"]
    with tenancy.within(made.id):
        key = services.create_key(
            services.Draft(
                kind=Kind.CONTROL_PLANE,
                name="admin",
                project=builders.root(made),
                environment=builders.production(made),
                scopes=scopes,
            ),
            actor=caller,
        )
    json.dump({"organization": made.id, "secret": key.secret}, sys.stdout)


if __name__ == "__main__":
    main()
