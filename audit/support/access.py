"""The only door to what support staff have open: their own, by the database's clock."""

from django.db import connection
from django.db.models.functions import Now

from audit import tenancy
from audit.models import SupportKind, SupportSession

# Whoever closes it waits, so that nothing is recorded after its end.
HOLD = """
    SELECT 1 FROM audit_supportsession WHERE id = %s AND ended_at IS NULL AND expires_at > clock_timestamp() FOR SHARE
"""


def session(id_: str, user_id: str) -> SupportSession | None:
    """Return a person's own session that nobody has closed, whether or not its time is up."""
    with tenancy.everywhere(tenancy.Reason.SUPPORT_SESSION):
        return SupportSession.objects.filter(pk=id_, user_id=user_id, ended_at=None).first()


def open_session(id_: str, user_id: str, kind: SupportKind) -> SupportSession | None:
    """Return a person's own session of one kind if it is open at this moment."""
    with tenancy.everywhere(tenancy.Reason.SUPPORT_SESSION):
        running = SupportSession.objects.filter(ended_at=None, expires_at__gt=Now())
        return running.filter(pk=id_, user_id=user_id, kind=kind).first()


def hold(id_: str) -> bool:
    """Return whether a session is still open, held so until the transaction ends. Run it within its organization."""
    with connection.cursor() as cursor:
        cursor.execute(HOLD, [id_])
        return cursor.fetchone() is not None
