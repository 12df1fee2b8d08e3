"""The public keys that new secrets are sealed to: whoever registers one receives what rotates by itself.

Whoever leaves may have kept the private key. So one counts while somebody vouches for it who may register one: who
registered it, or an owner or admin who has confirmed since that the organization holds its private key.
"""

from typing import Final

from django.db import IntegrityError, connection, transaction
from django.db.models import F, Func, Value

from audit import ledger
from audit.acts import Act
from keys import clock, looking, sealing
from keys.errors import Conflict, Forbidden, Invalid
from keys.models import Recipient
from keys.models.notice import What
from orgs.members import Member
from orgs.roles import Permission

MAX_RECIPIENTS: Final = 20
MAX_NAME: Final = 100


def register_recipient(name: str, public_key: str, *, actor: Member) -> Recipient:
    """Register a public key of the actor's organization; from now on it is the one that secrets are sealed to.

    Writes the recipient and the entry `recipient.registered` with its fingerprint; keys whose rotation waited for a
    recipient are due at once.

    Args:
        name: what people call it, 1 to 100 characters, unique to nobody.
        public_key: base64 of 32 bytes, or PEM; see `keys.sealing.parse_public_key`.
        actor: an owner or admin who has stepped up; the step-up is the page's to ask for.

    Raises:
        Forbidden: the actor's role doesn't configure the organization.
        Invalid: no name, or no good key (fields `name`, `public_key`).
        Conflict: it is registered already, or there are 20.
    """
    _check(actor)
    name, raw = _checked_name(name), sealing.parse_public_key(public_key)
    with ledger.recording(actor.organization_id, actor) as entry:
        _one_at_a_time(actor.organization_id)
        current = Recipient.objects.of(actor.organization_id).current()
        if current.count() >= MAX_RECIPIENTS:
            raise Conflict(f"There are {MAX_RECIPIENTS} recipient keys: remove one first.")
        found = _insert(name, raw, actor)
        looking.look_again(actor.organization_id, What.ROTATION, found.created_at)
        entry(
            Act.RECIPIENT_REGISTERED,
            target=found.id,
            data={"name": name, "fingerprint": found.fingerprint},
        )
    return found


def confirm_recipient(recipient: Recipient, *, actor: Member) -> bool:
    """Vouch for a recipient that nobody does any more: from now on secrets may be sealed to it again.

    Writes who vouches for it, and the entry `recipient.registered` with `confirmed`; keys whose rotation waited for a
    recipient are due at once. Whoever confirms one counts from now on among those who can open what is sealed to it.

    Args:
        recipient: of the actor's organization.
        actor: an owner or admin who has stepped up; the step-up is the page's to ask for.

    Returns:
        Whether this call did it; one that somebody vouches for, or that was removed, stays as it is.

    Raises:
        Forbidden: the actor's role doesn't configure the organization.
    """
    _check(actor)
    with ledger.recording(actor.organization_id, actor) as entry:
        found = Recipient.objects.of(actor.organization_id).current().lapsed().filter(pk=recipient.pk)
        confirmed = found.update(vouched_by=Func(F("vouched_by"), Value(actor.id), function="array_append"))
        if confirmed:
            looking.look_again(actor.organization_id, What.ROTATION, clock.now())
            data = {"name": recipient.name, "fingerprint": recipient.fingerprint, "confirmed": True}
            entry(Act.RECIPIENT_REGISTERED, target=recipient.id, data=data)
    return bool(confirmed)


def remove_recipient(recipient: Recipient, *, actor: Member) -> bool:
    """Seal nothing more to a recipient, and record `recipient.removed`; what is sealed to it already stays so.

    Returns:
        Whether this call did it; a second one changes and records nothing.

    Raises:
        Forbidden: the actor's role doesn't configure the organization.
    """
    _check(actor)
    with ledger.recording(recipient.organization_id, actor) as entry:
        current = Recipient.objects.of(actor.organization_id).current().filter(pk=recipient.pk)
        removed = current.update(removed_at=clock.now(), removed_by=actor.id)
        if removed:
            data = {
                "name": recipient.name,
                "fingerprint": recipient.fingerprint,
            }
            entry(Act.RECIPIENT_REMOVED, target=recipient.id, data=data)
    return bool(removed)


def newest_recipient(organization_id: str, *, is_locked: bool = False, but_by: str = "") -> Recipient | None:
    """Return whom new secrets are sealed to: the newest that somebody vouches for; None where there is none.

    `is_locked`: hold its row, so that nothing is sealed to a recipient while it is being removed. `but_by`: somebody
    who is about to leave, and vouches for nothing then.
    """
    current = Recipient.objects.of(organization_id).current().vouched(but_by=but_by)
    if is_locked:
        current = current.select_for_update(no_key=True)
    return current.order_by("-created_at", "-id").first()


def lapsed_recipients(organization_id: str) -> list[Recipient]:
    """Return the recipients that nothing is sealed to until somebody confirms them, the newest first."""
    return list(Recipient.objects.of(organization_id).current().lapsed())


def lapsing_with(organization_id: str, user_id: str) -> list[Recipient]:
    """Return the recipients that would lapse if somebody left, the newest first."""
    current = Recipient.objects.of(organization_id).current()
    return list(current.vouched().exclude(pk__in=current.vouched(but_by=user_id).values("pk")))


def _check(actor: Member) -> None:
    if not actor.may(Permission.ORGANIZATION_CONFIGURE):
        raise Forbidden("Owners and admins register recipient keys.")


def _checked_name(name: str) -> str:
    stripped = " ".join(name.split())
    if not 1 <= len(stripped) <= MAX_NAME or "\x00" in stripped:
        raise Invalid(f"1 to {MAX_NAME} characters.", field="name")
    return stripped


def _one_at_a_time(organization_id: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('keys:recipient:' || %s, 0))", [organization_id]
        )


def _insert(name: str, raw: bytes, actor: Member) -> Recipient:
    try:
        with transaction.atomic():
            return Recipient.objects.create(
                organization_id=actor.organization_id,
                name=name,
                public_key=raw,
                created_at=clock.now(),
                created_by=actor.id,
                vouched_by=[actor.id],
            )
    except IntegrityError as error:
        if "recipient_once" in str(error):
            raise Conflict("This public key is registered already.", field="public_key") from None
        raise
