"""What can be done from the security log about a key that an entry tells of."""

from collections.abc import Collection

from django.urls import reverse

from audit.ports import Reader
from keys import access
from orgs.members import Member


def revocable(member: Reader, ids: Collection[str]) -> dict[str, str]:
    """Return, for those of the ids that are keys which the person may revoke, the path of the page that does."""
    keys = [each for each in ids if each.startswith("key_")]
    if not keys or not isinstance(member, Member):
        return {}
    return {
        key.id: reverse("keys:revoke", args=[key.id])
        for key in access.keys_for_change(member, keys)
        if key.revoked_at is None
    }
