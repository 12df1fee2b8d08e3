from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models


class Session(AbstractBaseSession):
    """A browser's session, found by the SHA-256 of its cookie: a dump of this table signs nobody in."""

    session_key = models.CharField("digest", max_length=64, primary_key=True)
    user_id = models.CharField(max_length=32, blank=True, db_index=True)

    class Meta(AbstractBaseSession.Meta):
        db_table = "orgs_session"

    @classmethod
    def get_session_store_class(cls) -> type:
        from orgs.sessions import SessionStore  # noqa: PLC0415

        return SessionStore
