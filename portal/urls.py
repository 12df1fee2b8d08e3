from django.contrib import admin
from django.urls import include, path

from portal import health, mailbox

handler400 = "portal.errors.bad_request"
handler403 = "portal.errors.forbidden"
handler404 = "portal.errors.not_found"
handler500 = "portal.errors.server_error"

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("dev/mail", mailbox.mailbox, name="mailbox"),
    path("dev/mail/<slug:name>", mailbox.mailbox_message, name="mailbox_message"),
    path("admin/", admin.site.urls),
    path("v1/", include("keys.api.urls")),
    path("", include("orgs.urls")),
    path("", include("audit.urls")),
    path("", include("keys.urls")),
]
