"""The only door to what support staff have open: their own, by the database's clock."""

from django.db.models.functions import Now

from audit import tenancy
from audit.models import SupportKind, SupportSession


def session(id_: str, user_id: str) -> SupportSession | None:
    """Return a person's own session that nobody has closed, whether or not its time is up."""
    with tenancy.everywhere(tenancy.Reason.SUPPORT_SESSION):
        return SupportSession.objects.filter(pk=id_, user_id=user_id, ended_at=None).first()


def open_session(id_: str, user_id: str, kind: SupportKind) -> SupportSession | None:
    """Return a person's own session of one kind if it is open at this moment."""
    with tenancy.everywhere(tenancy.Reason.SUPPORT_SESSION):
        running = SupportSession.objects.filter(ended_at=None, expires_at__gt=Now())
        return running.filter(pk=id_, user_id=user_id, kind=kind).first()
