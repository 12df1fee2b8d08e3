"""Every change to keys: one function each, with its rows and its ledger entry in one transaction."""

from keys.services.breakglass import Broken, break_glass, refuse_break_glass
from keys.services.bulk import Outcome, change_many
from keys.services.changes import Changes, change_key, disable_key, enable_key
from keys.services.creation import Created, Draft, Owner, create_key
from keys.services.ending import cancel_rotation, complete_rotation
from keys.services.expiry import tell_of_expiry
from keys.services.exporting import export_keys
from keys.services.leaks import Reported, burn_secret, report_leak
from keys.services.leaving import settle_keys_of_leaver
from keys.services.noticing import record_first_networks, record_returns
from keys.services.policies import PolicyChange, change_policy
from keys.services.recipients import register_recipient, remove_recipient
from keys.services.revocation import revoke_key
from keys.services.rotating import Rotated, rotate_key
from keys.services.scopes import ScopeDraft, change_scope, create_scope
from keys.services.tiers import TierDraft, change_tier, create_tier

__all__ = [
    "Broken",
    "Changes",
    "Created",
    "Draft",
    "Outcome",
    "Owner",
    "PolicyChange",
    "Reported",
    "Rotated",
    "ScopeDraft",
    "TierDraft",
    "break_glass",
    "burn_secret",
    "cancel_rotation",
    "change_key",
    "change_many",
    "change_policy",
    "change_scope",
    "change_tier",
    "complete_rotation",
    "create_key",
    "create_scope",
    "create_tier",
    "disable_key",
    "enable_key",
    "export_keys",
    "record_first_networks",
    "record_returns",
    "refuse_break_glass",
    "register_recipient",
    "remove_recipient",
    "report_leak",
    "revoke_key",
    "rotate_key",
    "settle_keys_of_leaver",
    "tell_of_expiry",
]
