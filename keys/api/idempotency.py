"""`Idempotency-Key`: the first answer again, and never a second change (spec API).

The record is written in the change's own transaction, so that a crash leaves both or neither; failures are not kept,
so that a retry is never blocked. It holds no secret: a repeated answer says that the secret was shown.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final

from django.db import connection
from django.http import HttpRequest
from pydantic import BaseModel

from keys import clock, peppers
from keys.api.problems import Problem, invalid
from keys.models import IdempotencyRecord

HEADER: Final = "Idempotency-Key"
KEPT_FOR: Final = timedelta(hours=24)
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_ALREADY_SHOWN: Final = {"secret": None, "secret_status": "already_shown"}


@dataclass(frozen=True, slots=True)
class Kept:
    """The first answer; empty where it had no body."""

    status: int
    answer: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request with a key, under the lock that lets one such request run at a time."""

    caller: str
    organization_id: str
    key_digest: bytes
    request: str

    def earlier(self) -> Kept | None:
        """Return the first answer, None if there is none yet; raises a `Problem` with 422 for another request."""
        mine = IdempotencyRecord.objects.filter(caller=self.caller)
        mine.filter(created_at__lte=clock.now() - KEPT_FOR).delete()
        found = mine.filter(key_digest=self.key_digest).first()
        if found is None:
            return None
        digests = peppers.digests(self.request)
        if not any(hmac.compare_digest(bytes(found.request_digest), digest) for digest in digests):
            raise invalid(HEADER, "This key came with another request before.", code="idempotency_key_reused")
        return Kept(found.status, found.answer)

    def keep(self, status: HTTPStatus, body: BaseModel | None) -> None:
        """Write the record, with the change and not without it."""
        answer = {} if body is None else body.model_dump(mode="json", exclude_unset=True)
        IdempotencyRecord.objects.create(
            organization_id=self.organization_id,
            caller=self.caller,
            key_digest=self.key_digest,
            request_digest=peppers.digest(self.request),
            status=status,
            answer=answer | _ALREADY_SHOWN if "secret" in answer else answer,
        )


def asked(request: HttpRequest, caller: str, organization_id: str) -> Asked | None:
    """Return the request with its lock taken until the transaction ends; None where it has no key.

    Raises a `Problem`: 422 for a key that is none, 409 while the first request with it is running.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if _KEY.fullmatch(key) is None:
        raise invalid(HEADER, "1 to 255 printable ASCII characters without spaces.")
    digest = hashlib.sha256(f"api:{organization_id}:{key}".encode()).digest()
    _lock(f"{caller}:{digest.hex()}")
    body = hashlib.sha256(request.body).hexdigest()
    return Asked(
        caller=caller,
        organization_id=organization_id,
        key_digest=digest,
        request=f"{request.method} {request.get_full_path()}\n{body}",
    )


def _lock(name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended('idempotency:' || %s, 0))", [name])
        if not cursor.fetchone()[0]:
            raise Problem(
                HTTPStatus.CONFLICT,
                "idempotency_running",
                "The first request with this key is still running.",
            )
