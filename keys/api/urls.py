"""The URLs under `/v1/`: ninja's, each view made the API's own, and the document that describes them."""

from collections.abc import Callable
from functools import cache, wraps
from http import HTTPStatus
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.urls import URLPattern, path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from ninja import NinjaAPI

from keys.api import (
    approvals,
    audit,
    breakglass,
    docs,
    entitlements,
    executions,
    keys,
    leaks,
    meta,
    problems,
    reference,
    reports,
    rotation,
    usage,
    verify,
    webhooks,
)
from keys.api.auth import notices
from keys.api.body import StrictParser
from keys.gate import views
from keys.gate.asgi import OPERATIONS
from keys.gate.messages import wrong_method

type View = Callable[..., HttpResponseBase]

api: Final = NinjaAPI(
    title="Keystead",
    version="1",
    description="Create, scope, rotate, revoke and verify API keys.",
    openapi_url=None,
    docs_url=None,
    urls_namespace="v1",
    parser=StrictParser(),
)
problems.handle_all(api)
for router in (
    # Before the keys: its address would be a key's.
    breakglass.router,
    keys.router,
    rotation.router,
    leaks.router,
    verify.router,
    entitlements.router,
    usage.router,
    reports.router,
    approvals.router,
    executions.router,
    webhooks.router,
    audit.router,
    meta.router,
):
    api.add_router("", router)


def of_api(view: View) -> View:
    """Open a view to keys: no sign-in and no CSRF token, wrong methods as problems, the caller's expiry on all."""

    @login_not_required
    @csrf_exempt
    @wraps(view)
    def answered(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = view(request, *args, **kwargs)
        if response.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            response = problems.respond(request, wrong_method(response["Allow"]))
        for name, value in notices(request).items():
            response[name] = value
        return response

    return answered


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI document; not to be changed."""
    return docs.finished(api.get_openapi_schema(path_prefix="/v1/"))


@require_safe
def openapi(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    return JsonResponse(document())


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    found = {
        "groups": reference.groups(document(), settings.KEYSTEAD_BASE_URL),
        "shapes": reference.shapes(document()),
    }
    return render(request, "docs/api.html", found)


def _view(pattern: URLPattern) -> View:
    """Return what answers an address: the gate, where it stands in front of it."""
    place = f"/v1/{pattern.pattern}"
    return views.through(place) if place in OPERATIONS else pattern.callback


app_name = "v1"
urlpatterns = [
    path("openapi.json", of_api(openapi), name="openapi"),
    path("docs", of_api(page), name="docs"),
    *[
        path(str(pattern.pattern), of_api(_view(pattern)), name=pattern.name)
        for pattern in api.urls[0]
        if isinstance(pattern, URLPattern) and pattern.name != "api-root"
    ],
]
