"""A form that mints a secret is obeyed once: a double click or a browser's re-POST must not mint a second.

The form carries a random token. Its digest is claimed in the transaction that does the work, so that of two
submissions at once the later waits for the earlier and then finds what became of it.
"""

import hashlib
import re
import secrets
from collections.abc import Callable
from typing import Final

from django.db import transaction

from keys.callers import Caller
from keys.errors import Conflict, Invalid
from keys.models import IdempotencyRecord

TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{32,64}")
_DONE: Final = 200


class AlreadyDone(Conflict):
    """This form was already sent, and obeyed."""

    code = "already_done"

    def __init__(self, key_id: str) -> None:
        """Keep the id of the key that the first submission made or rotated."""
        super().__init__()
        self.key_id = key_id


def new_token() -> str:
    """Return the token of a fresh form; it lets nobody do anything, so it is not secret."""
    return secrets.token_urlsafe(32)


def once[Minted](
    token: str,
    act: Callable[[], Minted],
    *,
    key_id_of: Callable[[Minted], str],
    actor: Caller,
    organization_id: str,
) -> Minted:
    """Do what a form asks for unless the same form was obeyed before; both or neither is committed.

    Bound to the person, not to the session: a session's id changes when they confirm their password in between.

    Args:
        token: of the form, as it came back.
        act: does the work; what it raises undoes the claim, so that the corrected form can be sent again.
        key_id_of: returns the id of the key that the work was about.
        actor, organization_id: who sent the form, and where.

    Returns:
        What `act` returned. Of it, only the key's id is stored.

    Raises:
        Invalid: no token (field `token`).
        AlreadyDone: with the id of the key of the first submission.
    """
    if TOKEN.fullmatch(token) is None:
        raise Invalid("This form is incomplete. Load the page again.", field="token")
    with transaction.atomic():
        record, is_first = IdempotencyRecord.objects.get_or_create(
            caller=actor.id,
            key_digest=hashlib.sha256(f"form:{organization_id}:{token}".encode()).digest(),
            defaults={
                "organization_id": organization_id,
                "request_digest": hashlib.sha256(b"form").digest(),
                "status": _DONE,
                "answer": {},
            },
        )
        if not is_first:
            raise AlreadyDone(str(record.answer.get("key", "")))
        minted = act()
        IdempotencyRecord.objects.filter(pk=record.pk).update(answer={"key": key_id_of(minted)})
    return minted
