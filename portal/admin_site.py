"""The admin site: for superusers, over every organization, and nothing in it writes without a ledger entry."""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, cast, override

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import redirect_to_login
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import redirect
from django.template.response import SimpleTemplateResponse
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils.decorators import method_decorator

from audit import admin as ledger_pages
from audit import ledger, mailing, pulse, tenancy
from audit.admin_pages import AnyModelAdmin, ReadOnlyAdmin, RecordedAdmin
from audit.signatures import notary_pulse
from orgs.middleware import actor
from orgs.requests import PageRequest
from portal import admin_health

View = Callable[..., HttpResponseBase]


class Site(admin.AdminSite):
    """Django's site with the portal's own sign-in, and with pages that write through services alone."""

    site_header = site_title = "Keystead admin"
    index_title = "Everything, in every organization"

    @override
    def has_permission(self, request: HttpRequest) -> bool:
        """Admit superusers who may sign in, nobody else."""
        return request.user.is_active and request.user.is_superuser

    @override
    def register(
        self,
        model_or_iterable: type[Model] | Iterable[type[Model]],
        admin_class: type[AnyModelAdmin] | None = None,
        **options: Any,
    ) -> None:
        """Register our own pages; those that libraries bring write past the ledger, so they are left out."""
        if admin_class is not None and issubclass(admin_class, (ReadOnlyAdmin, RecordedAdmin)):
            super().register(model_or_iterable, admin_class, **options)

    @override
    def admin_view(self, view: View, cacheable: bool = False) -> Any:
        """Run a page for superusers over every organization; to everybody else who is signed in it is a 404."""
        inner = super().admin_view(_everywhere(view), cacheable)

        @wraps(inner)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if request.user.is_authenticated and not self.has_permission(request):
                raise Http404
            return inner(request, *args, **kwargs)

        return guarded

    @method_decorator(login_not_required)
    @override
    def login(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Lead to the portal's own sign-in, which limits, records and steps up."""
        if self.has_permission(request):
            return redirect("admin:index")
        if request.user.is_authenticated:
            raise Http404
        return redirect_to_login(request.GET.get("next") or reverse("admin:index"), settings.LOGIN_URL)

    @override
    def logout(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """Hand the request, POST as it is, to the portal's own sign-out."""
        return HttpResponseRedirect(reverse("account_logout"), preserve_request=True)

    @override
    def password_change(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """Lead to the portal's own page, which records it."""
        return redirect("account_change_password")

    @override
    def password_change_done(
        self,
        request: HttpRequest,
        extra_context: Any = None,
    ) -> Any:
        """Lead back; the portal's own page says what was done."""
        return redirect("admin:index")

    @override
    def get_urls(self) -> list[URLPattern | URLResolver]:
        """Add the ledger's pages: its key is of three columns, for which Django has none; and the health's."""
        return [
            path("health/", self.admin_view(admin_health.health), name="health"),
            path("ledger/", self.admin_view(_operator_ledger), name="ledger_operator"),
            path("ledger/<slug:organization_id>/", self.admin_view(ledger_pages.entry_list), name="ledger"),
            path(
                "ledger/<slug:organization_id>/<int:epoch>/<int:index>/",
                self.admin_view(ledger_pages.entry_detail),
                name="ledger_entry",
            ),
            *super().get_urls(),
        ]

    @override
    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """List the ledger and the health beside the models."""
        listed = super().get_app_list(request, app_label)
        return listed if app_label else [*listed, *_entry_points()]

    @override
    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Begin with what does not work."""
        context = {
            "pulse": pulse.read(),
            "notary": notary_pulse.read(),
            "mail_is_on": mailing.is_on(),
            **(extra_context or {}),
        }
        return super().index(request, context)


def _everywhere(view: View) -> View:
    """Open the transaction that sees every organization, with the operator's ledger at hand for what has none.

    The page is drawn inside, because its lists are read only then.
    """

    @wraps(view)
    def run(request: PageRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        with (
            tenancy.everywhere(tenancy.Reason.ADMIN),
            ledger.recording(tenancy.operator_id(), actor(request)),
        ):
            response = view(request, *args, **kwargs)
            if isinstance(response, SimpleTemplateResponse):
                response = cast("HttpResponseBase", response.render())
            return response

    return run


def _operator_ledger(request: HttpRequest) -> HttpResponseBase:  # noqa: ARG001
    return redirect("admin:ledger", organization_id=tenancy.operator_id())


def _entry_points() -> list[dict[str, Any]]:
    return [
        _entry_point("Ledger", "Ledger entries", "Entry", reverse("admin:ledger_operator")),
        _entry_point("Health", "Worker, notary, mail and webhooks", "Health", reverse("admin:health")),
    ]


def _entry_point(app: str, name: str, object_name: str, url: str) -> dict[str, Any]:
    """Return a page of ours as the index lists models."""
    model = {
        "name": name,
        "object_name": object_name,
        "perms": {"add": False, "change": False, "delete": False, "view": True},
        "admin_url": url,
        "add_url": None,
        "view_only": True,
    }
    return {
        "name": app,
        "app_label": app.lower(),
        "app_url": url,
        "has_module_perms": True,
        "models": [model],
    }
