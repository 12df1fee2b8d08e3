"""What the support console asks of people and organizations (`audit.ports.SupportDirectory`), under `everywhere`."""

from collections.abc import Collection, Iterable, Sequence

from django.db import connection
from django.db.models import Q

from audit.ports import Customer
from orgs.models import Organization, StaffRole, User

# Whoever takes the role away waits, and then finds what was opened.
HOLDS = "SELECT 1 FROM orgs_user WHERE id = %s AND is_active AND staff_role = %s FOR SHARE"


class Directory:
    """The organizations' app, as support staff look things up in it."""

    def is_support(self, user_id: str) -> bool:
        """Return whether an account may sign in and has the role; held so until the transaction ends."""
        with connection.cursor() as cursor:
            cursor.execute(HOLDS, [user_id, StaffRole.SUPPORT])
            return cursor.fetchone() is not None

    def customers(self, ids: Collection[str]) -> dict[str, Customer]:
        """Return organizations by id."""
        return {each.id: each for each in _customers(Organization.objects.filter(pk__in=list(ids)))}

    def find_customers(self, text: str, limit: int) -> Sequence[Customer]:
        """Return those of which id or short name is this text, or whose name holds it; by name."""
        named = Q(pk=text) | Q(slug=text.lower()) | Q(name__icontains=text)
        return _customers(Organization.objects.filter(named).order_by("name", "id")[:limit])

    def find_people(self, text: str, limit: int) -> Sequence[str]:
        """Return the ids of people with this e-mail address, or whose name or address begins like this."""
        named = Q(email__istartswith=text) | Q(name__istartswith=text) | Q(name__icontains=f" {text}")
        return list(User.objects.filter(named).order_by("email").values_list("id", flat=True)[:limit])


def _customers(found: Iterable[Organization]) -> list[Customer]:
    return [
        Customer(
            id=each.id,
            name=each.name,
            is_operator=each.is_operator,
            is_suspended=each.suspended_at is not None,
        )
        for each in found
    ]
