"""The session engine: Django's, over digests of the cookie instead of the cookie itself (spec PEOPLE, Sign-in)."""

import hashlib
from typing import Any

from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.utils import timezone

from orgs.models.session import Session


def digest(cookie: str) -> str:
    """Return the hex SHA-256 under which a session's row is found."""
    return hashlib.sha256(cookie.encode()).hexdigest()


def end_all(user_id: str, *, keep: str = "") -> int:
    """End a person's sessions at once, but for the one whose cookie is `keep`; return how many it were."""
    theirs = Session.objects.filter(user_id=user_id)
    return theirs.exclude(session_key=digest(keep) if keep else "").delete()[0]


class SessionStore(DatabaseStore):
    """Keep `session_key` the cookie's value towards Django, and its digest towards the database."""

    @classmethod
    def get_model_class(cls) -> type[Session]:
        return Session

    def _get_session_from_db(self) -> Session | None:
        found = Session.objects.filter(
            session_key=digest(str(self.session_key)), expire_date__gt=timezone.now()
        ).first()
        if found is None:
            self._session_key = None
        return found

    def exists(self, session_key: str | None) -> bool:
        return super().exists(digest(session_key)) if session_key else False

    def delete(self, session_key: str | None = None) -> None:
        key = session_key or self.session_key
        if key:
            Session.objects.filter(session_key=digest(key)).delete()

    def create_model_instance(self, data: dict[str, Any]) -> Session:
        return Session(
            session_key=digest(self._get_or_create_session_key()),  # type: ignore[attr-defined]
            session_data=self.encode(data),
            expire_date=self.get_expiry_date(),
            user_id=str(data.get(SESSION_KEY, "")),
        )
