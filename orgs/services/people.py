"""Changes to people, who belong to no organization: they are told in the operator's ledger."""

from audit.actors import Actor
from audit.acts import Act
from audit.models import SupportEnd
from audit.services import close_all_support
from orgs import sessions
from orgs.errors import Gone, Taken
from orgs.models import StaffRole, User
from orgs.models.user import new_user_id
from orgs.services.common import difference, operator_recording, refusing


def create_user(
    email: str,
    *,
    actor: Actor,
    name: str = "",
    password: str | None = None,
    is_superuser: bool = False,
    staff_role: str = StaffRole.NONE,
    user_id: str = "",
) -> User:
    """Make an account and record `user.created`.

    Args:
        email: kept in lower case; personal, so sealed in the ledger.
        actor: who makes it.
        name: what people call them, at most 100 characters.
        password: checked by the form; None means that none will do until one is set.
        is_superuser: sees the admin site.
        staff_role: a `StaffRole`.
        user_id: the id to give, where the person makes their own account and so is the actor.

    Raises:
        Taken: the address has an account (field `email`).
    """
    with refusing(Taken), operator_recording(actor) as entry:
        user = User.objects.create_user(
            email,
            password,
            id=user_id or new_user_id(),
            name=name,
            is_superuser=is_superuser,
            staff_role=staff_role,
        )
        entry(
            Act.USER_CREATED,
            target=user.id,
            data={"is_superuser": is_superuser, "staff_role": str(staff_role)},
            sealed={"user_email": user.email, "user_name": name},
        )
    return user


def disable_user(user: User, *, actor: Actor) -> bool:
    """Bar a person from signing in, end their sessions at once, and record `user.disabled`.

    Returns:
        Whether this call did it; a second one changes and records nothing.
    """
    with operator_recording(actor) as entry:
        changed = User.objects.filter(pk=user.pk, is_active=True).update(is_active=False)
        if changed:
            ended = sessions.end_all(user.id)
            close_all_support(user.id, why=SupportEnd.ROLE_LOST)
            entry(Act.USER_DISABLED, target=user.id, data={"sessions_ended": ended})
    user.is_active = False
    return bool(changed)


def enable_user(user: User, *, actor: Actor) -> bool:
    """Let a person sign in again and record `user.enabled`; return whether this call did it."""
    with operator_recording(actor) as entry:
        changed = User.objects.filter(pk=user.pk, is_active=False).update(is_active=True)
        if changed:
            entry(Act.USER_ENABLED, target=user.id)
    user.is_active = True
    return bool(changed)


def change_staff(user: User, *, actor: Actor, is_superuser: bool, staff_role: str) -> bool:
    """Set what a person may do for the operator, and record `user.staff_changed`; their sessions end.

    Returns:
        Whether anything changed.

    Raises:
        Gone: the account is no more.
    """
    with operator_recording(actor) as entry:
        found = User.objects.select_for_update(no_key=True).filter(pk=user.pk).first()
        if found is None:
            raise Gone
        changes = difference(
            {"is_superuser": found.is_superuser, "staff_role": found.staff_role},
            {"is_superuser": is_superuser, "staff_role": str(staff_role)},
        )
        if changes:
            User.objects.filter(pk=user.pk).update(is_superuser=is_superuser, staff_role=staff_role)
            lost = staff_role != StaffRole.SUPPORT
            close_all_support(user.id, why=SupportEnd.ROLE_LOST if lost else SupportEnd.SIGNED_OUT)
            entry(
                Act.USER_STAFF_CHANGED,
                target=user.id,
                data=changes | {"sessions_ended": sessions.end_all(user.id)},
            )
    user.is_superuser, user.staff_role = is_superuser, StaffRole(staff_role)
    return bool(changes)


def set_password(user: User, password: str, *, actor: Actor, keep_session: str = "") -> None:
    """Set a person's password, end their sessions but one, and record `user.password_changed`.

    Args:
        user: whose.
        password: checked by the form; stored as Argon2id and nowhere else.
        actor: the person, or a superuser.
        keep_session: the session key (the cookie's value) that goes on, where the person does it themselves.
    """
    user.set_password(password)
    with operator_recording(actor) as entry:
        User.objects.filter(pk=user.pk).update(password=user.password)
        ended = sessions.end_all(user.id, keep=keep_session)
        close_all_support(user.id, why=SupportEnd.SIGNED_OUT)
        entry(Act.USER_PASSWORD_CHANGED, target=user.id, data={"sessions_ended": ended})


def start_session(user: User, *, actor: Actor, method: str = "password") -> None:
    """Record `session.started`, in the transaction that stored the session."""
    with operator_recording(actor) as entry:
        entry(Act.SESSION_STARTED, target=user.id, data={"method": method})
