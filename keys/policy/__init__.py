"""What a key may be: its fields, its networks, its expiry, and what its creator may grant. KEYS §2, §3."""

from keys.policy.expiry import (
    ABSENT,
    DEFAULTS,
    Absent,
    ExpiryRule,
    Requested,
    after_days,
    check_interval,
    check_rule,
    expires_at,
)
from keys.policy.fields import (
    check_description,
    check_name,
    check_note,
    check_scopes,
    check_tags,
    check_team,
    suggest_name,
)
from keys.policy.grants import Bounds, grant_expiry, grant_networks, refuse_excess
from keys.policy.networks import address_allowed, networks_within, normalise_networks

__all__ = [
    "ABSENT",
    "DEFAULTS",
    "Absent",
    "Bounds",
    "ExpiryRule",
    "Requested",
    "address_allowed",
    "after_days",
    "check_description",
    "check_interval",
    "check_name",
    "check_note",
    "check_rule",
    "check_scopes",
    "check_tags",
    "check_team",
    "expires_at",
    "grant_expiry",
    "grant_networks",
    "networks_within",
    "normalise_networks",
    "refuse_excess",
    "suggest_name",
]
