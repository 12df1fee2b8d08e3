"""Webhooks as they are managed: endpoints, their secrets, and what they were sent. Receiving: `keystead.webhooks`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from keystead.asking import Moment, acting, creating, given, moment, nothing, query, reading
from keystead.calls import Call, path_of
from keystead.errors import SecretAlreadyShown
from keystead.reading import read
from keystead.secret import Secret

PATH = "/v1/webhooks"


@dataclass(frozen=True)
class Webhook:
    """An endpoint; never its secret.

    Args:
        acts: what it hears of: `key.revoked`, `key.*`, `*`.
        status: `active`, `failing` or `disabled`.
        disabled_reason: `person`, `gone` (it answered 410) or `failing` (to the last attempt).
    """

    id: str
    url: str
    acts: tuple[str, ...]
    status: str
    created_at: datetime
    created_by: str
    description: str = ""
    disabled_at: datetime | None = None
    disabled_reason: str | None = None
    last_delivered_at: datetime | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True)
class Webhooks:
    """A page of webhooks, and the cursor of the next."""

    data: tuple[Webhook, ...]
    next_cursor: str | None = None


@dataclass(frozen=True)
class WebhookWithSecret:
    """A webhook and the secret that signs what it is sent, shown this once."""

    webhook: Webhook
    shown: Secret | None = field(default=None, repr=False, metadata={"name": "secret"})
    secret_status: str = "shown"  # noqa: S105

    @property
    def secret(self) -> Secret:
        """Return the secret, `whsec_…`.

        Raises:
            SecretAlreadyShown: an earlier answer had it.
        """
        if self.shown is None:
            raise SecretAlreadyShown(self.webhook.id)
        return self.shown


@dataclass(frozen=True)
class Attempt:
    """An attempt to deliver; `text` is the first kilobyte of what the receiver answered."""

    at: datetime
    duration_ms: int
    outcome: str
    status: int | None = None
    detail: str = ""
    text: str = ""


@dataclass(frozen=True)
class Delivery:
    """One event on its way to one webhook.

    Args:
        id: its `webhook-id`, the same over all attempts.
        index: of the ledger's entry; None for a test event.
        state: `pending`, `delivered` or `failed`.
    """

    id: str
    act: str
    state: str
    attempts: int
    created_at: datetime
    index: int | None = None
    next_attempt_at: datetime | None = None
    finished_at: datetime | None = None
    last_attempt: Attempt | None = None


@dataclass(frozen=True)
class Deliveries:
    """A page of deliveries, and the cursor of the next."""

    data: tuple[Delivery, ...]
    next_cursor: str | None = None


@dataclass(frozen=True)
class Resent:
    """How many deliveries begin anew."""

    deliveries: int


def create_webhook(
    url: str,
    *,
    acts: Sequence[str],
    description: str | None = None,
    idempotency_key: str | None = None,
) -> Call[WebhookWithSecret]:
    """Create a webhook that hears of what is recorded from now on; the answer holds its secret, this once.

    Args:
        url: https, to an address that the portal may send to.
        acts: `key.revoked`, all of a subject (`key.*`), or `*`.
        idempotency_key: your own, so that a creation that you repeat makes one; drawn unless given.

    Raises:
        ApiError: PermissionDenied, Conflict, Invalid (an address that the portal never sends to).
    """
    body = given(url=url, acts=list(acts), description=description)
    return creating(PATH, body, WebhookWithSecret, idempotency_key)


def list_webhooks(*, page_size: int | None = None) -> Call[Webhooks]:
    """List the organization's webhooks, page by page."""
    return reading(PATH, Webhooks, query(limit=page_size))


def get_webhook(webhook_id: str) -> Call[Webhook]:
    """Return a webhook; never its secret.

    Raises:
        NotFound: there is none that the client may see.
    """
    return reading(_path(webhook_id), Webhook)


def update_webhook(
    webhook_id: str,
    *,
    url: str | None = None,
    acts: Sequence[str] | None = None,
    description: str | None = None,
    enabled: bool | None = None,
) -> Call[Webhook]:
    """Change a webhook; what is not given stays as it is.

    Args:
        enabled: False sends it nothing; True what is recorded from then on.

    Raises:
        ApiError: NotFound, PermissionDenied, Conflict, Invalid.
    """
    body = given(url=url, acts=None if acts is None else list(acts), description=description, enabled=enabled)
    return Call("PATCH", _path(webhook_id), lambda data: read(Webhook, data), body=body)


def delete_webhook(webhook_id: str) -> Call[None]:
    """Remove a webhook with its deliveries; nothing more is sent.

    Raises:
        NotFound: there is none that the client may see.
    """
    return Call("DELETE", _path(webhook_id), nothing)


def rotate_webhook_secret(webhook_id: str, *, idempotency_key: str | None = None) -> Call[WebhookWithSecret]:
    """Give a webhook a new secret; for 24 hours everything is signed with the one before it too.

    Raises:
        ApiError: NotFound, PermissionDenied.
    """
    return creating(_path(webhook_id, "rotate-secret"), {}, WebhookWithSecret, idempotency_key)


def test_webhook(webhook_id: str) -> Call[Delivery]:
    """Send the event `webhook.test`, once, also to a webhook that is disabled.

    Raises:
        NotFound: there is none that the client may see.
    """
    return acting(_path(webhook_id, "test"), Delivery)


def list_deliveries(
    webhook_id: str, *, state: str | None = None, page_size: int | None = None
) -> Call[Deliveries]:
    """List what a webhook was sent in the last 30 days, the newest first, page by page.

    Args:
        state: `pending`, `delivered` or `failed`.
    """
    return reading(_path(webhook_id, "deliveries"), Deliveries, query(state=state, limit=page_size))


def resend_delivery(webhook_id: str, delivery_id: str) -> Call[Delivery]:
    """Send one again, under the `webhook-id` that it had, from the first attempt on.

    Raises:
        NotFound: there is none that the client may see.
    """
    path = path_of(_path(webhook_id, "deliveries"), delivery_id, "resend", like="a delivery's id")
    return acting(path, Delivery)


def resend_range(webhook_id: str, *, since: Moment, until: Moment) -> Call[Resent]:
    """Send everything again that was recorded in a time and is subscribed to now, at most 10,000.

    Raises:
        ApiError: NotFound, Invalid.
    """
    return acting(_path(webhook_id, "resend"), Resent, {"from": moment(since), "to": moment(until)})


def _path(webhook_id: str, *rest: str) -> str:
    return path_of(PATH, webhook_id, *rest, like="a webhook's id: those look like whk_…")
