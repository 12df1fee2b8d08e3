"""Every change to webhooks, exports and what support staff open: its rows and its entry in one transaction."""

from audit.services.bundles import hand_out_bundle
from audit.services.erasing import erase_person
from audit.services.exports import ExportDraft, ExportMade, complete_export, remove_export, request_export
from audit.services.support import (
    close_all_support,
    close_lapsed_support,
    close_support,
    open_search,
    open_visit,
    record_page,
    record_search,
    tell_of_search,
)
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
    "close_all_support",
    "close_lapsed_support",
    "close_support",
    "complete_export",
    "create_endpoint",
    "disable_endpoint",
    "enable_endpoint",
    "erase_person",
    "hand_out_bundle",
    "open_search",
    "open_visit",
    "record_page",
    "record_search",
    "remove_endpoint",
    "remove_export",
    "request_export",
    "resend_delivery",
    "resend_range",
    "rotate_endpoint_secret",
    "send_test_event",
    "tell_of_search",
]
