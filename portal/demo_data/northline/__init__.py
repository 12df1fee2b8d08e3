"""The first customer: a network-operations team, with keys in every state there is."""

from collections.abc import Mapping
from typing import Final

from portal.demo_data.keyspecs import KeySpec
from portal.demo_data.northline.others import OTHERS
from portal.demo_data.northline.working import WORKING

SLUG: Final = "northline"
NAME: Final = "Northline NOC"
PLAN: Final = "growth"
# More than the plan: it was a customer before there were plans.
AGREED: Final[Mapping[str, object]] = {
    "rate_limit": {"requests": 600_000, "window_seconds": 60},
    "key_cap": None,
    "entitlements": {"seats": 40, "replay": True},
}
ENVIRONMENTS: Final = (("staging", "Staging", "live"), ("lab", "Lab", "test"))
# Name, and the name of what it lies below; "" is the root.
PROJECTS: Final = (
    ("Core network", ""),
    ("Edge", "Core network"),
    ("Backbone", "Core network"),
    ("Billing", ""),
    ("Field operations", ""),
)
# The first name that specs use, role, whole name, and the project where the role holds.
PEOPLE: Final = (
    ("alice", "owner", "Alice Moreau", ""),
    ("bob", "developer", "Bob Lindqvist", ""),
    ("carol", "auditor", "Carol Nakamura", ""),
    ("erin", "admin", "Erin Okafor", ""),
    ("vera", "viewer", "ורד לוי", ""),
    ("tariq", "developer", "طارق الحسن", "Billing"),
)
# Used just now: by a verification, as a service would ask.
USED_NOW: Final = ("prod-ingest-us-east-1", "prod-ingest-eu-west-2")


def specs() -> tuple[KeySpec, ...]:
    """Return every key."""
    return (*WORKING, *OTHERS)
