"""The scopes of the product's own API: reserved names, in the catalogue from the first migration (spec KEYS §3)."""

from typing import Final

from keys.secret import Kind
from orgs.roles import Risk

_API: Final = (Kind.CONTROL_PLANE.value, Kind.SERVICE.value)

BREAK_GLASS: Final = "keys:breakglass"

# What lets a developer do no more than in the portal is `write`; what reaches further is `admin`.
SCOPES: Final = (
    ("keys:read", "See keys and their history", Risk.READ.value, _API),
    ("keys:write", "Create and change keys", Risk.WRITE.value, _API),
    ("keys:rotate", "Rotate keys", Risk.WRITE.value, _API),
    ("keys:revoke", "Revoke keys", Risk.WRITE.value, _API),
    ("keys:verify", "Verify presented keys", Risk.READ.value, _API),
    (BREAK_GLASS, "Revoke many keys in one act", Risk.ADMIN.value, _API),
    ("usage:read", "See usage", Risk.READ.value, _API),
    ("audit:read", "Read the whole security log", Risk.ADMIN.value, _API),
    ("webhooks:write", "Manage webhooks", Risk.ADMIN.value, _API),
    ("approvals:request", "Ask for approvals", Risk.WRITE.value, _API),
)
