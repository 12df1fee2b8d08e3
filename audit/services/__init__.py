"""What can be done to an organization's webhooks. Each writes its rows and its entry in one transaction."""

from audit.services.bundles import hand_out_bundle
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
    "Made",
    "change_endpoint",
    "create_endpoint",
    "disable_endpoint",
    "enable_endpoint",
    "hand_out_bundle",
    "remove_endpoint",
    "resend_delivery",
    "resend_range",
    "rotate_endpoint_secret",
    "send_test_event",
]
