from django.contrib import admin
from django.urls import include, path

from portal import health

handler400 = "portal.errors.bad_request"
handler403 = "portal.errors.forbidden"
handler404 = "portal.errors.not_found"
handler500 = "portal.errors.server_error"

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("admin/", admin.site.urls),
    path("v1/", include("keys.api.urls")),
    path("", include("orgs.urls")),
    path("", include("audit.urls")),
    path("", include("keys.urls")),
]
