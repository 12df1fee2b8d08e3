"""Webhooks: an organization's endpoints, what they were sent, and what they answered."""

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render, resolve_url
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from audit import ports, services
from audit.errors import WebhookError, WebhookMade
from audit.models import EndpointSecret
from audit.ports import ReaderRequest
from audit.services import Changes, Made
from audit.services.webhooks import MOST_ENDPOINTS
from audit.webhooks import access
from audit.webhooks.forms import ResendForm, RotateForm, WebhookForm, new_token, refuse

PAGE_SIZE: Final = 50
FORM: Final = ["GET", "HEAD", "POST"]
type View = Callable[..., HttpResponseBase]


class SeeOther(HttpResponseRedirect):
    """303: what was posted is done; read the result there."""

    status_code = HTTPStatus.SEE_OTHER


def confirmed(view: View) -> View:
    """Have people confirm their password first, where that was not done in the last minutes (`ports.step_up`)."""

    @wraps(view)
    def asked(request: ReaderRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not ports.step_up:
            raise PermissionDenied
        for needed in ports.step_up:
            if (first := needed(request)) is not None:
                return first
        return view(request, *args, **kwargs)

    return asked


@require_safe
def webhooks(request: ReaderRequest) -> HttpResponse:
    """List the organization's endpoints."""
    found = access.endpoints(request.member)
    full = len(found) >= MOST_ENDPOINTS
    return _page(request, "webhooks", {"endpoints": found, "is_full": full})


@require_http_methods(FORM)
@confirmed
def webhook_create(request: ReaderRequest) -> HttpResponse:
    """Offer a form; make an endpoint, once, and show its secret."""
    member = request.member
    access.require(member)
    form = WebhookForm(request.POST if request.method == "POST" else None, initial={"token": new_token()})
    if form.is_bound and form.is_valid():
        asked = form.cleaned_data
        try:
            made = services.create_endpoint(
                member.organization_id,
                asked["url"],
                asked["acts"],
                actor=member.actor,
                description=asked["description"],
                form=asked["token"],
            )
        except WebhookMade as done:
            messages.warning(
                request, "This form was already sent, and obeyed: its secret was in the first answer."
            )
            return _to(done.endpoint_id)
        except WebhookError as error:
            refuse(form, error)
        else:
            return _show_secret(request, made, is_new=True)
    return _form(request, "webhook_form", form)


@require_safe
def webhook(request: ReaderRequest, endpoint_id: str) -> HttpResponse:
    """Show one endpoint and its deliveries, page by page; `state=failed` narrows."""
    endpoint = access.endpoint(request.member, endpoint_id)
    failed_only = request.GET.get("state") == "failed"
    before = request.GET.get("before", "")
    try:
        deliveries, older = access.page_of(
            access.deliveries(endpoint, failed_only=failed_only), before, PAGE_SIZE
        )
    except ValueError:
        raise Http404 from None
    context = {
        "endpoint": endpoint,
        "deliveries": deliveries,
        "older": older,
        "before": before,
        "failed_only": failed_only,
        "secrets": EndpointSecret.objects.filter(endpoint=endpoint).defer("sealed").order_by("-version"),
    }
    response = _page(request, "webhook", context, part="rows")
    patch_vary_headers(response, ["HX-Request"])
    return response


@require_http_methods(FORM)
@confirmed
def webhook_edit(request: ReaderRequest, endpoint_id: str) -> HttpResponse:
    """Change where an endpoint is, what it hears of, and its description."""
    endpoint = access.endpoint(request.member, endpoint_id)
    now = {"url": endpoint.url, "description": endpoint.description, "acts": endpoint.acts}
    form = WebhookForm(
        request.POST if request.method == "POST" else None, initial=now | {"token": new_token()}
    )
    if form.is_bound and form.is_valid():
        asked = form.cleaned_data
        changes = Changes(url=asked["url"], acts=asked["acts"], description=asked["description"])
        try:
            services.change_endpoint(endpoint, changes, actor=request.member.actor)
        except WebhookError as error:
            refuse(form, error)
        else:
            messages.success(request, "The webhook was changed.")
            return _to(endpoint.id)
    return _form(request, "webhook_form", form, endpoint=endpoint)


@require_http_methods(FORM)
@confirmed
def webhook_rotate(request: ReaderRequest, endpoint_id: str) -> HttpResponse:
    """Say what a rotation does; rotate, once, and show the new secret."""
    endpoint = access.endpoint(request.member, endpoint_id)
    newest = EndpointSecret.objects.get(endpoint=endpoint, signs_until=None).version
    form = RotateForm(request.POST if request.method == "POST" else None, initial={"version": newest})
    if form.is_bound and form.is_valid():
        try:
            made = services.rotate_endpoint_secret(
                endpoint, actor=request.member.actor, version=form.cleaned_data["version"]
            )
        except WebhookError as error:
            form.add_error(None, error.detail)
            form.data = {"version": newest}
        else:
            return _show_secret(request, made, is_new=False)
    return _form(request, "webhook_rotate", form, endpoint=endpoint)


@require_POST
def webhook_disable(request: ReaderRequest, endpoint_id: str) -> HttpResponse:
    """Send nothing more."""
    endpoint = access.endpoint(request.member, endpoint_id)
    done = "The webhook is disabled: nothing is sent to it."
    return _act(
        request, endpoint_id, done, lambda: services.disable_endpoint(endpoint, actor=request.member.actor)
    )


@require_POST
def webhook_enable(request: ReaderRequest, endpoint_id: str) -> HttpResponse:
    """Send again, from now on."""
    endpoint = access.endpoint(request.member, endpoint_id)
    done = "The webhook is enabled. What it missed you can resend."
    return _act(
        request, endpoint_id, done, lambda: services.enable_endpoint(endpoint, actor=request.member.actor)
    )


@require_POST
def webhook_test(request: ReaderRequest, endpoint_id: str) -> HttpResponse:
    """Send a test event."""
    endpoint = access.endpoint(request.member, endpoint_id)
    done = "A test event is on its way: reload in a moment to see the answer."
    return _act(
        request, endpoint_id, done, lambda: services.send_test_event(endpoint, actor=request.member.actor)
    )


@require_http_methods(FORM)
def webhook_remove(request: ReaderRequest, endpoint_id: str) -> HttpResponse:
    """Say what goes; delete an endpoint."""
    endpoint = access.endpoint(request.member, endpoint_id)
    if request.method != "POST":
        return _page(request, "webhook_remove", {"endpoint": endpoint})
    try:
        services.remove_endpoint(endpoint, actor=request.member.actor)
    except WebhookError as error:
        messages.error(request, error.detail)
    else:
        messages.success(request, "The webhook was removed.")
    return SeeOther(resolve_url("audit:webhooks"))


@require_http_methods(FORM)
def webhook_resend(request: ReaderRequest, endpoint_id: str) -> HttpResponse:
    """Deliver once more what was recorded in a time."""
    endpoint = access.endpoint(request.member, endpoint_id)
    form = ResendForm(request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        asked = form.cleaned_data
        try:
            count = services.resend_range(
                endpoint, asked["since"], asked["until"], actor=request.member.actor
            )
        except WebhookError as error:
            refuse(form, error)
        else:
            messages.success(request, f"{count:,} deliver{'y is' if count == 1 else 'ies are'} on the way.")
            return _to(endpoint.id)
    return _form(request, "webhook_resend", form, endpoint=endpoint)


@require_safe
def webhook_delivery(request: ReaderRequest, endpoint_id: str, delivery_id: str) -> HttpResponse:
    """Show one delivery: its body, and each attempt with what came back."""
    endpoint = access.endpoint(request.member, endpoint_id)
    detail = access.detail(access.delivery(endpoint, delivery_id))
    context = {"endpoint": endpoint, "detail": detail, "delivery": detail.delivery}
    return _page(request, "webhook_delivery", context)


@require_POST
def webhook_delivery_resend(request: ReaderRequest, endpoint_id: str, delivery_id: str) -> HttpResponse:
    """Deliver once more."""
    endpoint = access.endpoint(request.member, endpoint_id)
    delivery = access.delivery(endpoint, delivery_id)
    done = "It is on its way again, with the same webhook-id."
    place = resolve_url("audit:webhook_delivery", endpoint_id, delivery_id)
    return _act(
        request,
        endpoint_id,
        done,
        lambda: services.resend_delivery(delivery, actor=request.member.actor),
        place,
    )


def _act(
    request: ReaderRequest, endpoint_id: str, done: str, act: Callable[[], object], place: str = ""
) -> HttpResponse:
    try:
        act()
    except WebhookError as error:
        messages.error(request, error.detail)
    else:
        messages.success(request, done)
    return SeeOther(place) if place else _to(endpoint_id)


def _show_secret(request: ReaderRequest, made: Made, *, is_new: bool) -> HttpResponse:
    """Answer with the secret: the one POST that renders. Nothing keeps it, neither here nor on the way."""
    context = {"endpoint": made.endpoint, "secret": made.secret, "is_new": is_new}
    response = _page(request, "webhook_secret", context)
    response.shows_secret = True  # type: ignore[attr-defined]
    response["Cache-Control"] = "no-store"
    return response


def _form(request: ReaderRequest, page: str, form: forms.Form, **context: object) -> HttpResponse:
    status = HTTPStatus.UNPROCESSABLE_ENTITY if form.errors else HTTPStatus.OK
    return _page(request, page, {"form": form, **context}, status=status)


def _page(
    request: ReaderRequest,
    page: str,
    context: dict[str, Any],
    *,
    part: str = "",
    status: HTTPStatus = HTTPStatus.OK,
) -> HttpResponse:
    is_part = part and request.headers.get("HX-Target") == part
    template = f"audit/{page}.html#{part}" if is_part else f"audit/{page}.html"
    return render(request, template, {"place": "webhooks", **context}, status=status)


def _to(endpoint_id: str) -> SeeOther:
    return SeeOther(resolve_url("audit:webhook", endpoint_id))
