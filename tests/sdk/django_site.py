"""A Django site whose views are protected."""

from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from keystead.django import public, require_scopes


@require_scopes("incidents:read")
def incident(request: HttpRequest, number: int) -> JsonResponse:
    return JsonResponse({"for": request.keystead.name})


@require_scopes("incidents:read", "incidents:write")
def both(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"for": request.keystead.name})


@require_scopes("incidents:read OR incidents:write", cost=5)
async def awaited(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"for": request.keystead.name})


@method_decorator(require_scopes("incidents:read"), name="dispatch")
class Incidents(View):
    def get(self, request: HttpRequest) -> JsonResponse:
        return JsonResponse({"for": request.keystead.name})


def plain(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"for": getattr(getattr(request, "keystead", None), "name", None)})


@public
def health(_request: HttpRequest) -> JsonResponse:
    return JsonResponse({"ok": True})


urlpatterns = [
    path("api/incidents/<int:number>", incident),
    path("api/both", both),
    path("api/awaited", awaited),
    path("api/class", Incidents.as_view()),
    path("api/plain", plain),
    path("api/health", health),
    path("api/exempt", plain),
    path("elsewhere", plain),
]
