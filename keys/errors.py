"""What can go wrong with keys: one ladder. The HTTP status of each rung is chosen in `api`, not here.

The first line of a class's docstring is what people read when no better `detail` is given. A detail never
repeats what was submitted: someone will paste a secret into the wrong field one day.
"""

from collections.abc import Sequence
from typing import ClassVar


class KeysError(Exception):
    """The key could not be changed."""

    code: ClassVar[str] = "keys_error"

    def __init__(self, detail: str = "", *, field: str = "") -> None:
        """Keep what went wrong (`detail`, for people) and where (`field`: `tags`, `allowed_ips[2]`)."""
        self.detail = detail or _first_line(type(self))
        self.field = field
        super().__init__(self.detail)


class Malformed(KeysError):
    """This is not a key of ours."""

    code = "malformed"


class Invalid(KeysError):
    """This value is not allowed here."""

    code = "invalid_value"

    @property
    def errors(self) -> Sequence["Invalid"]:
        """Return every single error: itself, or those that an `InvalidMany` gathered."""
        return (self,)


class TakesTooLong(Invalid):
    """So many calls take too long to count: choose a shorter range, or a filter."""

    code = "takes_too_long"


class InvalidMany(Invalid):
    """Several values are not allowed."""

    def __init__(self, errors: Sequence[Invalid]) -> None:
        """Gather the errors of several fields, so that a form can show all of them at once."""
        super().__init__()
        self._errors = tuple(single for error in errors for single in error.errors)

    @property
    def errors(self) -> Sequence[Invalid]:
        """Return the gathered errors, flat, in their order."""
        return self._errors


class Unavailable(KeysError):
    """The service can't reach its database. Nothing was changed; try again."""

    code = "unavailable"


class Conflict(KeysError):
    """The key is not in a state that allows this."""

    code = "conflict"


class NameTaken(Conflict):
    """Another key of this environment already has this name."""

    code = "name_taken"


class KeyCapReached(Conflict):
    """The plan has no room for another key: revoke one that is no longer needed, or let it expire."""

    code = "key_cap_reached"


class StateForbids(Conflict):
    """A key that is expired, disabled or revoked can't do this."""

    code = "state_forbids"


class VersionConflict(Conflict):
    """The key was rotated meanwhile: look at it again before you go on."""

    code = "version_conflict"


class RotationRunning(Conflict):
    """A rotation of this key is still running: complete or cancel it first."""

    code = "rotation_running"

    def __init__(self, rotation_id: str) -> None:
        """Keep the id of the running rotation: the caller needs it to complete or to cancel."""
        super().__init__()
        self.rotation_id = rotation_id


class RotationEnded(Conflict):
    """This rotation is not running any more."""

    code = "rotation_ended"


class ExecutionConflict(Conflict):
    """This key has recorded another execution under this id."""

    code = "execution_conflict"


class Forbidden(KeysError):
    """You may not do this."""

    code = "forbidden"


class ExceedsGrant(Forbidden):
    """Nobody grants more than they hold."""

    code = "exceeds_grant"


class StepUpNeeded(Forbidden):
    """Confirm your password first: it must be at most five minutes ago."""

    code = "step_up_required"


class PersonRequired(Forbidden):
    """People decide on approvals, on the portal's pages; a key can't."""

    code = "person_required"


class DecisionRefused(Forbidden):
    """You may not decide on this approval."""

    code = "decision_refused"


class SelfRotationRefused(Forbidden):
    """This key may not rotate itself with this secret."""

    code = "self_rotation_refused"


class NotSigned(KeysError):
    """The message is not signed by a key of the scanning partner's."""

    code = "invalid_signature"


def _first_line(rung: type[KeysError]) -> str:
    return (rung.__doc__ or "").partition("\n")[0]
