"""`/v1/webhooks`: endpoints, their secrets, and what they were sent. The services and the rules are audit's."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Final, Literal

from django.http import Http404, HttpResponse
from ninja import Query, Router
from pydantic import ConfigDict, Field

from audit import services as webhooks
from audit.models import Attempt, Delivery, DeliveryState, Endpoint
from audit.services.webhooks import MOST_DESCRIPTION
from audit.webhooks import access, address, patterns
from audit.webhooks.sending import Outcome
from keys.api import docs, running
from keys.api.answers import Answer, PageOut, Shown
from keys.api.auth import ApiRequest, Bearer
from keys.api.paging import PageQuery, by_column, check_names
from keys.api.problems import invalid
from keys.api.requests import NO_NUL, Strict
from keys.api.times import Moment, Time
from keys.callers import Caller
from keys.errors import Forbidden

router = Router(tags=["Webhooks"])
SCOPE: Final = "webhooks:write"
Url = Annotated[str, Field(max_length=address.MOST, pattern=NO_NUL)]
Act = Annotated[str, Field(max_length=64, pattern=NO_NUL)]
Acts = Annotated[
    list[Act],
    Field(
        min_length=1,
        max_length=patterns.MOST,
        description="Acts such as `key.revoked`, all of a subject such as `key.*`, or `*`.",
    ),
]
Description = Annotated[str, Field(max_length=MOST_DESCRIPTION, pattern=NO_NUL)]


class WebhookDraft(Strict):
    """A webhook to make."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"url": "https://hooks.example.com/keystead", "acts": ["key.*", "rotation.*"]}]
        }
    )

    url: Url
    acts: Acts
    description: Description = ""


class WebhookChanges(Strict):
    """What is to be different; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"acts": ["key.revoked"]}]})

    url: Url = ""
    acts: Acts = Field(default_factory=list)
    description: Description = ""
    enabled: bool = True


class ResendRequest(Strict):
    """A time: everything that was recorded in it and is subscribed to now."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"from": "2026-11-20T00:00:00Z", "to": "2026-11-20T06:00:00Z"}]}
    )

    since: Time = Field(alias="from")
    until: Time = Field(alias="to")


class DeliveriesQuery(PageQuery):
    """Which deliveries."""

    state: Literal["pending", "delivered", "failed"] | None = None


class WebhookOut(Answer):
    """A webhook. Its secret is never in it."""

    id: str
    url: str
    acts: list[str]
    description: str
    status: Literal["active", "failing", "disabled"]
    disabled_at: Moment | None
    disabled_reason: Literal["person", "gone", "failing"] | None
    last_delivered_at: Moment | None
    created_at: Moment
    created_by: str
    updated_at: Moment


class WebhookMadeOut(Shown):
    """A webhook and its secret, `whsec_…`, shown this once."""

    webhook: WebhookOut


class WebhooksOut(PageOut[WebhookOut]):
    """A page of webhooks."""


class AttemptOut(Answer):
    """An attempt. `text` is the first kilobyte of what the receiver answered."""

    at: Moment
    duration_ms: int
    outcome: Outcome
    status: int | None
    detail: str
    text: str


class DeliveryOut(Answer):
    """A delivery; `id` is its `webhook-id`. `index` is null for a test event, which stands in no ledger."""

    id: str
    act: str
    index: int | None
    state: DeliveryState
    attempts: int
    created_at: Moment
    next_attempt_at: Moment | None
    finished_at: Moment | None
    last_attempt: AttemptOut | None


class DeliveriesOut(PageOut[DeliveryOut]):
    """A page of deliveries, the newest first."""


class ResentOut(Answer):
    """How many deliveries begin anew."""

    deliveries: int


@router.post(
    "/webhooks",
    auth=Bearer(SCOPE),
    response={201: WebhookMadeOut},
    operation_id="create_webhook",
    summary="Create a webhook",
    openapi_extra=docs.change(SCOPE, 403, 409, once=True),
)
def webhook_create(request: ApiRequest, body: WebhookDraft) -> HttpResponse:
    """It hears of what is recorded from now on. The answer shows the secret that signs, this once."""
    check_names(request)

    def act(caller: Caller) -> tuple[HTTPStatus, WebhookMadeOut]:
        _require_whole(request)
        made = webhooks.create_endpoint(
            request.auth.key.organization_id, body.url, body.acts, actor=caller, description=body.description
        )
        return HTTPStatus.CREATED, WebhookMadeOut(webhook=_shown(made.endpoint), secret=made.secret)

    return running.change_once(request, act)


@router.get(
    "/webhooks",
    auth=Bearer(SCOPE),
    response=WebhooksOut,
    operation_id="list_webhooks",
    summary="List webhooks",
    openapi_extra=docs.read(SCOPE, 403),
)
def webhook_list(request: ApiRequest, query: Query[PageQuery]) -> HttpResponse:
    """The organization's webhooks, by id."""
    check_names(request, tuple(PageQuery.model_fields))

    def act(_caller: Caller) -> WebhooksOut:
        _require_whole(request)
        rows = access.of_organization(request.auth.key.organization_id)
        items, following = by_column(rows, "id", query)
        return WebhooksOut(data=[_shown(each) for each in items], next_cursor=following)

    return running.read(request, act)


@router.get(
    "/webhooks/{webhook_id}",
    auth=Bearer(SCOPE),
    response=WebhookOut,
    operation_id="get_webhook",
    summary="See a webhook",
    openapi_extra=docs.read(SCOPE, 403, 404),
)
def webhook_get(request: ApiRequest, webhook_id: str) -> HttpResponse:
    """One webhook; never its secret."""
    check_names(request)
    return running.read(request, lambda _: _shown(_find(request, webhook_id)))


@router.patch(
    "/webhooks/{webhook_id}",
    auth=Bearer(SCOPE),
    response=WebhookOut,
    operation_id="change_webhook",
    summary="Change a webhook",
    openapi_extra=docs.change(SCOPE, 403, 404, 409),
)
def webhook_change(request: ApiRequest, webhook_id: str, body: WebhookChanges) -> HttpResponse:
    """What is left out stays. Disabled, it is sent nothing; enabled again, what is recorded from then on."""
    check_names(request)

    def act(caller: Caller) -> tuple[HTTPStatus, WebhookOut]:
        endpoint = _find(request, webhook_id)
        changes = webhooks.Changes(
            url=body.url if body.has("url") else None,
            acts=body.acts if body.has("acts") else None,
            description=body.description if body.has("description") else None,
        )
        webhooks.change_endpoint(endpoint, changes, actor=caller)
        if body.has("enabled") and body.enabled == endpoint.is_disabled:
            switch = webhooks.enable_endpoint if body.enabled else webhooks.disable_endpoint
            switch(endpoint, actor=caller)
        return HTTPStatus.OK, _shown(_find(request, webhook_id))

    return running.change(request, act)


@router.delete(
    "/webhooks/{webhook_id}",
    auth=Bearer(SCOPE),
    response={204: None},
    operation_id="delete_webhook",
    summary="Remove a webhook",
    openapi_extra=docs.change(SCOPE, 403, 404, 409),
)
def webhook_delete(request: ApiRequest, webhook_id: str) -> HttpResponse:
    """Nothing more is sent; its deliveries go with it."""
    check_names(request)

    def act(caller: Caller) -> tuple[HTTPStatus, None]:
        webhooks.remove_endpoint(_find(request, webhook_id), actor=caller)
        return HTTPStatus.NO_CONTENT, None

    return running.change(request, act)


@router.post(
    "/webhooks/{webhook_id}/rotate-secret",
    auth=Bearer(SCOPE),
    response={201: WebhookMadeOut},
    operation_id="rotate_webhook_secret",
    summary="Rotate a webhook's secret",
    openapi_extra=docs.change(SCOPE, 403, 404, 409, once=True),
)
def webhook_rotate(request: ApiRequest, webhook_id: str) -> HttpResponse:
    """For 24 hours every delivery is signed with the new secret and with the one before it."""
    check_names(request)

    def act(caller: Caller) -> tuple[HTTPStatus, WebhookMadeOut]:
        made = webhooks.rotate_endpoint_secret(_find(request, webhook_id), actor=caller)
        return HTTPStatus.CREATED, WebhookMadeOut(webhook=_shown(made.endpoint), secret=made.secret)

    return running.change_once(request, act)


@router.post(
    "/webhooks/{webhook_id}/test",
    auth=Bearer(SCOPE),
    response={202: DeliveryOut},
    operation_id="test_webhook",
    summary="Send a test event",
    openapi_extra=docs.change(SCOPE, 403, 404, 409, once=True),
)
def webhook_test(request: ApiRequest, webhook_id: str) -> HttpResponse:
    """`webhook.test`, once: no act of the ledger, and sent to a disabled webhook too."""
    check_names(request)

    def act(caller: Caller) -> tuple[HTTPStatus, DeliveryOut]:
        made = webhooks.send_test_event(_find(request, webhook_id), actor=caller)
        return HTTPStatus.ACCEPTED, _delivery(made, None)

    return running.change_once(request, act)


@router.post(
    "/webhooks/{webhook_id}/resend",
    auth=Bearer(SCOPE),
    response={202: ResentOut},
    operation_id="resend_webhook",
    summary="Resend what was recorded in a time",
    openapi_extra=docs.change(SCOPE, 403, 404, 409, once=True),
)
def webhook_resend(request: ApiRequest, webhook_id: str, body: ResendRequest) -> HttpResponse:
    """At most 10,000 entries, each with the `webhook-id` that it had."""
    check_names(request)

    def act(caller: Caller) -> tuple[HTTPStatus, ResentOut]:
        count = webhooks.resend_range(_find(request, webhook_id), body.since, body.until, actor=caller)
        return HTTPStatus.ACCEPTED, ResentOut(deliveries=count)

    return running.change_once(request, act)


@router.get(
    "/webhooks/{webhook_id}/deliveries",
    auth=Bearer(SCOPE),
    response=DeliveriesOut,
    operation_id="list_deliveries",
    summary="List deliveries",
    openapi_extra=docs.read(SCOPE, 403, 404),
)
def delivery_list(request: ApiRequest, webhook_id: str, query: Query[DeliveriesQuery]) -> HttpResponse:
    """What the webhook was sent in the last 30 days, the newest first."""
    check_names(request, tuple(DeliveriesQuery.model_fields))

    def act(_caller: Caller) -> DeliveriesOut:
        rows = Delivery.objects.filter(endpoint=_find(request, webhook_id))
        if query.state:
            rows = rows.filter(state=query.state)
        try:
            items, following = access.page_of(rows, query.cursor or "", query.limit)
        except ValueError:
            raise invalid("cursor", "This is no cursor of this list.") from None
        return DeliveriesOut(data=_deliveries(items), next_cursor=following or None)

    return running.read(request, act)


@router.post(
    "/webhooks/{webhook_id}/deliveries/{delivery_id}/resend",
    auth=Bearer(SCOPE),
    response={202: DeliveryOut},
    operation_id="resend_delivery",
    summary="Resend a delivery",
    openapi_extra=docs.change(SCOPE, 403, 404, 409, once=True),
)
def delivery_resend(request: ApiRequest, webhook_id: str, delivery_id: str) -> HttpResponse:
    """With the same `webhook-id`, from the first attempt on."""
    check_names(request)

    def act(caller: Caller) -> tuple[HTTPStatus, DeliveryOut]:
        endpoint = _find(request, webhook_id)
        found = access.delivery(endpoint, delivery_id) if "\0" not in delivery_id else None
        if found is None:
            raise Http404
        again = webhooks.resend_delivery(found, actor=caller)
        return HTTPStatus.ACCEPTED, _deliveries([again])[0]

    return running.change_once(request, act)


def _require_whole(request: ApiRequest) -> None:
    """Raise `Forbidden` for a key that is bound to a part of the organization: webhooks tell of all of it."""
    if request.auth.project.depth > 0:
        raise Forbidden(
            "Webhooks tell of the whole organization: only keys of its first project manage them."
        )


def _find(request: ApiRequest, webhook_id: str) -> Endpoint:
    _require_whole(request)
    rows = Endpoint.objects.filter(organization_id=request.auth.key.organization_id)
    found = rows.filter(pk=webhook_id).first() if "\0" not in webhook_id else None
    if found is None:
        raise Http404
    return found


def _shown(endpoint: Endpoint) -> WebhookOut:
    return WebhookOut.model_validate(
        {name: getattr(endpoint, name) for name in WebhookOut.model_fields if name != "disabled_reason"}
        | {"disabled_reason": endpoint.disabled_reason or None}
    )


def _deliveries(found: Sequence[Delivery]) -> list[DeliveryOut]:
    rows = Attempt.objects.filter(delivery__in=[each.pk for each in found])
    last = {row.delivery_id: row for row in rows.order_by("delivery_id", "-id").distinct("delivery_id")}
    return [_delivery(each, last.get(each.id)) for each in found]


def _delivery(found: Delivery, last: Attempt | None) -> DeliveryOut:
    attempt = None
    if last is not None:
        attempt = AttemptOut(
            at=last.at,
            duration_ms=last.duration_ms,
            outcome=Outcome(last.outcome),
            status=last.status,
            detail=last.detail,
            text=last.text,
        )
    return DeliveryOut(
        id=found.id,
        act=found.act,
        index=found.index,
        state=DeliveryState(found.state),
        attempts=found.attempts,
        created_at=found.created_at,
        next_attempt_at=found.next_attempt_at,
        finished_at=found.finished_at,
        last_attempt=attempt,
    )
