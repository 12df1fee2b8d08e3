"""What can go wrong: a key that is refused, an API that says no, a service that is out of reach.

KeysteadError
├── ConfigurationError      this client is not set up
├── Refused                 the presented key may not: what `validate` raises
│   ├── InvalidKey          Malformed, UnknownKey, Revoked, Disabled, Expired, SecretRetired; any code to come
│   ├── InsufficientScope   the key lacks `missing_scopes`
│   ├── Forbidden           suspended, elsewhere, from elsewhere, or cut away by its owner's role
│   ├── NotEntitled         the organization has not bought it
│   ├── ApprovalRequired
│   └── RateLimited         `retry_after_seconds`; QuotaExceeded below it
├── ApiError                the API's problem: status, code, detail, errors
│   └── BadRequest, AuthenticationError, PermissionDenied, NotFound, Conflict, Invalid, TooManyRequests, ServerError
├── Unavailable             no answer that can be trusted: never let a request through on it
│   └── UnreadableAnswer
├── SecretAlreadyShown      the key was made, but its secret can't be had again
├── Busy                    another process is at it
├── Unfinished              the new secret is written and works; the old one is accepted still
└── SuccessorLost           the key has a newer secret than the file, and nobody here knows it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from keystead.secret import redact

if TYPE_CHECKING:
    from keystead.models import Verdict


class KeysteadError(Exception):
    """Anything that this package raises on purpose. No message holds a secret."""


class ConfigurationError(KeysteadError):
    """The client lacks an address or a key, or has one that is not safe to use."""


class Refused(KeysteadError):
    """A presented key may not do what it asks. `verdict` has all that is known; `code` is KEYS §7's."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(redact(verdict.code))
        self.verdict = verdict

    @property
    def code(self) -> str:
        """Return the verdict's code, for machines: `EXPIRED`."""
        return self.verdict.code

    @property
    def request_id(self) -> str:
        """Return the id of the verification, as the portal knows it."""
        return self.verdict.request_id


class InvalidKey(Refused):
    """This is no key that is good here; also for codes that this version does not know."""


class Malformed(InvalidKey):
    """It has not the form of a key."""


class UnknownKey(InvalidKey):
    """There is no such key, or none that the verifier may know of."""


class Revoked(InvalidKey):
    """The key was revoked, for good."""


class Disabled(InvalidKey):
    """The key is disabled for now."""


class Expired(InvalidKey):
    """The key has expired."""


class SecretRetired(InvalidKey):
    """The key was rotated, and this secret of it has ended."""


class InsufficientScope(Refused):
    """The key does not carry a scope that is needed."""

    @property
    def missing_scopes(self) -> tuple[str, ...]:
        """Return the scopes that would help."""
        return self.verdict.missing_scopes


class Forbidden(Refused):
    """The key is good, but not for this: see `code`."""


class NotEntitled(Refused):
    """The key's organization has not bought the entitlement."""


class ApprovalRequired(Refused):
    """The key is bound to an approval, and has none for this."""


class RateLimited(Refused):
    """Too much within the key's window."""

    @property
    def retry_after_seconds(self) -> float | None:
        """Return how long to hold back; None where waiting won't help, as the cost is above the limit."""
        limit = self.verdict.key.rate_limit if self.verdict.key else None
        return limit.retry_after_seconds if limit else None


class QuotaExceeded(RateLimited):
    """The month's quota is spent."""

    @property
    def retry_after_seconds(self) -> float | None:
        """Return how long the period still lasts; None where the answer does not say."""
        quota = self.verdict.key.quota if self.verdict.key else None
        return quota.seconds_left() if quota else None


REFUSALS: Final[Mapping[str, type[Refused]]] = {
    "MALFORMED": Malformed,
    "NOT_FOUND": UnknownKey,
    "REVOKED": Revoked,
    "DISABLED": Disabled,
    "EXPIRED": Expired,
    "SECRET_RETIRED": SecretRetired,
    "ORGANIZATION_SUSPENDED": Forbidden,
    "WRONG_ENVIRONMENT": Forbidden,
    "WRONG_PROJECT": Forbidden,
    "IP_NOT_ALLOWED": Forbidden,
    "FORBIDDEN": Forbidden,
    "INSUFFICIENT_SCOPE": InsufficientScope,
    "NOT_ENTITLED": NotEntitled,
    "APPROVAL_REQUIRED": ApprovalRequired,
    "RATE_LIMITED": RateLimited,
    "QUOTA_EXCEEDED": QuotaExceeded,
}


@dataclass(frozen=True)
class FieldError:
    """One error of a request: where (`tags.team`), and what is wrong there."""

    location: str
    message: str


class ApiError(KeysteadError):
    """The API refused a call of this client. `code` is for machines, `detail` for people.

    Args:
        status: of the HTTP answer.
        code: the problem's, such as `name_taken`; empty where the answer was no problem document.
        request_id: to find the call in the portal's log.
        errors: the fields that were wrong, on 422.
        retry_after_seconds: what the answer asked for, else None.
        rotation_id: with `rotation_running`, the one that is.
    """

    def __init__(
        self,
        status: int,
        *,
        code: str = "",
        detail: str = "",
        request_id: str = "",
        errors: tuple[FieldError, ...] = (),
        retry_after_seconds: float | None = None,
        rotation_id: str = "",
    ) -> None:
        self.status = status
        self.code = code
        self.detail = redact(detail)
        self.request_id = request_id
        self.errors = errors
        self.retry_after_seconds = retry_after_seconds
        self.rotation_id = redact(rotation_id)
        super().__init__(self._text())

    def _text(self) -> str:
        fields = "".join(f" {redact(each.location)}: {redact(each.message)}" for each in self.errors)
        rotation = f" {self.rotation_id} is running." if self.rotation_id else ""
        return (
            f"{self.status} {redact(self.code)}: {self.detail}{rotation}{fields} (request {self.request_id})"
        )


class BadRequest(ApiError):
    """The request could not be read (400, 413, 415)."""


class AuthenticationError(ApiError):
    """This client's own key is not valid (401): nothing is said of any key that it asked about."""


class PermissionDenied(ApiError):
    """This client's own key may not do that (403)."""


class NotFound(ApiError):
    """It is not there, or this client's key may not see it (404)."""


class Conflict(ApiError):
    """A name that is taken, or a state that forbids it (409)."""


class Invalid(ApiError):
    """A field is wrong (422): see `errors`."""


class TooManyRequests(ApiError):
    """This client's own key calls too often (429): see `retry_after_seconds`."""


class ServerError(ApiError):
    """The portal failed (500)."""


BY_STATUS: Final[Mapping[int, type[ApiError]]] = {
    400: BadRequest,
    401: AuthenticationError,
    403: PermissionDenied,
    404: NotFound,
    409: Conflict,
    413: BadRequest,
    415: BadRequest,
    422: Invalid,
    429: TooManyRequests,
}


class Unavailable(KeysteadError):
    """The portal is out of reach or too busy: no verdict, so nobody is let in.

    Args:
        retry_after_seconds: what the portal asked for, else None.
    """

    def __init__(
        self, message: str, *, request_id: str = "", retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.request_id = request_id
        self.retry_after_seconds = retry_after_seconds


class UnreadableAnswer(Unavailable):
    """What came back is no answer of a portal."""


class SecretAlreadyShown(KeysteadError):
    """The change was made by an earlier request, whose answer had the secret; it can't be had again.

    Args:
        key_id: the key that is there: rotate it for a new secret, or revoke it.
    """

    def __init__(self, key_id: str) -> None:
        super().__init__(
            f"{key_id} was already answered with its secret, which is shown once: rotate the key to get another."
        )
        self.key_id = key_id


class Busy(KeysteadError):
    """Another process on this machine is doing the same."""


class Unfinished(KeysteadError):
    """A rotation is half done, and safe: the file has a secret that works. The next run goes on with it."""


class SuccessorLost(KeysteadError):
    """The secret in the file was replaced at the portal, and its successor is not known here.

    It is accepted for a while: until then a person must cancel the rotation at the portal, or write the newest secret
    into the file.

    Args:
        key_id: the key.
        rotation_id: the rotation, where it is known.
    """

    def __init__(self, key_id: str, rotation_id: str = "", *, until: str = "") -> None:
        rotation = f" ({rotation_id})" if rotation_id else ""
        ends = f"; it stops working at {until}" if until else ""
        super().__init__(
            f"The secret in the file was replaced by a newer one of {key_id}{rotation} that is not known here{ends}. "
            "Cancel the rotation at the portal, or put the newest secret into the file."
        )
        self.key_id = key_id
        self.rotation_id = rotation_id
