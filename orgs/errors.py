"""What can go wrong with people and tenants: one ladder. The HTTP status of each rung is chosen by the caller.

The first line of a class's docstring is what people read when no better `detail` is given.
"""

from collections.abc import Sequence
from typing import ClassVar


class OrgsError(Exception):
    """This could not be changed."""

    code: ClassVar[str] = "orgs_error"

    def __init__(self, detail: str = "", *, field: str = "") -> None:
        """Keep what went wrong (`detail`, for people) and in which field of a form, if in one."""
        self.detail = detail or (type(self).__doc__ or "").partition("\n")[0]
        self.field = field
        super().__init__(self.detail)


class Invalid(OrgsError):
    """This value is not allowed here."""

    code = "invalid_value"

    @property
    def errors(self) -> Sequence["Invalid"]:
        """Return every single error: itself, or those that an `InvalidMany` gathered."""
        return (self,)


class InvalidMany(Invalid):
    """Several values are not allowed."""

    def __init__(self, errors: Sequence[Invalid]) -> None:
        """Gather the errors of several fields, so that a form can show all of them at once."""
        super().__init__(" ".join(error.detail for error in errors))
        self._errors = tuple(errors)

    @property
    def errors(self) -> Sequence[Invalid]:
        """Return the gathered errors, in their order."""
        return self._errors


class Taken(OrgsError):
    """Something else already has this name."""

    code = "taken"


class Forbidden(OrgsError):
    """Your role does not include this."""

    code = "forbidden"


class LastOwner(OrgsError):
    """An organization keeps at least one owner. Make somebody else an owner first."""

    code = "last_owner"


class Gone(OrgsError):
    """Somebody else has changed or ended this in the meantime."""

    code = "gone"


class AlreadyMember(OrgsError):
    """This person already has a role there. Change it in the list of members."""

    code = "already_member"


class AlreadyInvited(OrgsError):
    """This address has an open invitation. Withdraw it to make a new link."""

    code = "already_invited"


class InvitationDead(OrgsError):
    """This invitation was used, withdrawn, or has expired. Ask for a new one."""

    code = "invitation_dead"


class WrongPerson(OrgsError):
    """This invitation is for another e-mail address."""

    code = "wrong_person"


class StillInUse(OrgsError):
    """Keys that still work stand in the way. Revoke them first."""

    code = "still_in_use"
