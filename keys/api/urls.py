"""The URLs under `/v1/`: ninja's, each view made the API's own, and the document that describes them."""

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any, Final

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.urls import URLPattern, path
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI

from keys.api import docs, keys, meta, problems, rotation, verify
from keys.api.auth import expiry_notice
from keys.api.body import StrictParser
from keys.api.problems import Problem

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
for router in (keys.router, rotation.router, verify.router, meta.router):
    api.add_router("", router)


def of_api(view: View) -> View:
    """Open a view to keys: no sign-in and no CSRF token, wrong methods as problems, the caller's expiry on all."""

    @login_not_required
    @csrf_exempt
    @wraps(view)
    def answered(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = view(request, *args, **kwargs)
        if response.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            response = problems.respond(request, _wrong_method(response["Allow"]))
        for name, value in expiry_notice(request).items():
            response[name] = value
        return response

    return answered


def _wrong_method(allow: str) -> Problem:
    detail = "This address does not take this method."
    return Problem(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", detail, {"Allow": allow})


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    return docs.finished(api.get_openapi_schema(path_prefix="/v1/"))


def openapi(request: HttpRequest) -> HttpResponse:
    if request.method not in {"GET", "HEAD"}:
        return problems.respond(request, _wrong_method("GET, HEAD"))
    return JsonResponse(document())


def docs_page(request: HttpRequest) -> HttpResponse:
    return render(request, "docs/api.html", {"document": document()})


urlpatterns = [
    path("openapi.json", of_api(openapi), name="openapi"),
    *[
        path(str(pattern.pattern), of_api(pattern.callback), name=pattern.name)
        for pattern in api.urls[0]
        if isinstance(pattern, URLPattern) and pattern.name != "api-root"
    ],
]
