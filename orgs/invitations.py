"""The tokens of invitation links: made once, shown once, found again by their digest alone (spec PEOPLE, Sign-in)."""

import hashlib
import secrets
from datetime import timedelta

from django.utils import timezone

from audit import tenancy
from orgs.models import Invitation

VALID_FOR = timedelta(days=7)


def new_token() -> str:
    """Return 32 random bytes as 43 URL-safe characters; secret."""
    return secrets.token_urlsafe(32)


def digest(token: str) -> bytes:
    """Return the SHA-256 under which an invitation is found."""
    return hashlib.sha256(token.encode()).digest()


def find_open(token_digest: bytes) -> Invitation | None:
    """Return the invitation whose link was opened, if it may still be taken up, in whatever organization it is."""
    with tenancy.everywhere(tenancy.Reason.INVITATION):
        return (
            Invitation.objects.filter(
                digest=token_digest,
                accepted_at__isnull=True,
                withdrawn_at__isnull=True,
                expires_at__gt=timezone.now(),
            )
            .select_related("organization", "project", "invited_by")
            .first()
        )
