from django.urls import path, register_converter

from audit import paging
from audit.views import checking, erasing, exports, log, support, webhooks


class PlaceConverter:
    """Where an entry stands: `41`, or `2-41` in the second epoch."""

    regex = "(?:[0-9]{1,4}-)?[0-9]{1,18}"

    def to_python(self, value: str) -> tuple[int, int]:
        return paging.read(value)

    def to_url(self, value: tuple[int, int]) -> str:
        return paging.written(value)


register_converter(PlaceConverter, "place")

app_name = "audit"
urlpatterns = [
    path("log", log.log, name="log"),
    path("log/erase", erasing.erase, name="erase"),
    path("log/erasures/<str:erasure_id>", erasing.erasure, name="erasure"),
    path("log/check", checking.checking, name="checking"),
    path("log/check/check_ledger.go", checking.checking_program, name="checking_program"),
    path("log/<place:place>", log.entry, name="entry"),
    path("settings/support", log.support_access, name="support_access"),
    path("support", support.console, name="support"),
    path("support/begin", support.support_begin, name="support_begin"),
    path("support/end", support.support_end, name="support_end"),
    path("support/leave", support.support_leave, name="support_leave"),
    path("support/open/<slug:organization_id>", support.support_open, name="support_open"),
    path("log/<place:place>/proof", log.entry_proof, name="entry_proof"),
    path("log/<place:place>/leaf", log.entry_leaf, name="entry_leaf"),
    path("log/export", exports.exports, name="exports"),
    path("log/export/confirm", exports.export_confirm, name="export_confirm"),
    path("log/export/<str:export_id>", exports.export_download, name="export_download"),
    path("log/export/<str:export_id>/remove", exports.export_remove, name="export_remove"),
    path("webhooks", webhooks.webhooks, name="webhooks"),
    path("webhooks/new", webhooks.webhook_create, name="webhook_create"),
    path("webhooks/<str:endpoint_id>", webhooks.webhook, name="webhook"),
    path("webhooks/<str:endpoint_id>/edit", webhooks.webhook_edit, name="webhook_edit"),
    path("webhooks/<str:endpoint_id>/rotate", webhooks.webhook_rotate, name="webhook_rotate"),
    path("webhooks/<str:endpoint_id>/disable", webhooks.webhook_disable, name="webhook_disable"),
    path("webhooks/<str:endpoint_id>/enable", webhooks.webhook_enable, name="webhook_enable"),
    path("webhooks/<str:endpoint_id>/remove", webhooks.webhook_remove, name="webhook_remove"),
    path("webhooks/<str:endpoint_id>/test", webhooks.webhook_test, name="webhook_test"),
    path("webhooks/<str:endpoint_id>/resend", webhooks.webhook_resend, name="webhook_resend"),
    path(
        "webhooks/<str:endpoint_id>/deliveries/<str:delivery_id>",
        webhooks.webhook_delivery,
        name="webhook_delivery",
    ),
    path(
        "webhooks/<str:endpoint_id>/deliveries/<str:delivery_id>/resend",
        webhooks.webhook_delivery_resend,
        name="webhook_delivery_resend",
    ),
]
