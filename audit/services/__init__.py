"""What can be done to an organization's webhooks and exports. Each writes its rows and its entry in one transaction."""

from audit.services.bundles import hand_out_bundle
from audit.services.exports import ExportDraft, ExportMade, complete_export, remove_export, request_export
from audit.services.webhooks import (
    Changes,
    Made,
    change_endpoint,
    create_endpoint,
    disable_endpoint,
    enable_endpoint,
    remove_endpoint,
    resend_delivery,
    resend_range,
    rotate_endpoint_secret,
    send_test_event,
)

__all__ = [
    "Changes",
    "ExportDraft",
    "ExportMade",
    "Made",
    "change_endpoint",
    "complete_export",
    "create_endpoint",
    "disable_endpoint",
    "enable_endpoint",
    "hand_out_bundle",
    "remove_endpoint",
    "remove_export",
    "request_export",
    "resend_delivery",
    "resend_range",
    "rotate_endpoint_secret",
    "send_test_event",
]
