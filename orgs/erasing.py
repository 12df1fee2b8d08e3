"""What the organizations' app does when a person's data is erased from a ledger (`audit.ports`)."""

from collections.abc import Sequence

from django.db.models import Q
from django.utils import timezone

from orgs.models import Invitation, User


def person(text: str) -> tuple[str, list[str]]:
    """Return the id and the e-mail address of the account with this id or address; ("", []) where there is none."""
    found = User.objects.filter(Q(pk=text) | Q(email=text.strip().lower())).first()
    return (found.id, [found.email]) if found else ("", [])


def forget_invitations(organization_id: str, addresses: Sequence[str]) -> None:
    """Delete an organization's invitations to these addresses that nobody can take up any more."""
    is_over = Q(accepted_at__isnull=False) | Q(withdrawn_at__isnull=False) | Q(expires_at__lte=timezone.now())
    Invitation.objects.filter(is_over, organization_id=organization_id, email__in=addresses).delete()
