"""Every change to keys: one function each, with its rows and its ledger entry in one transaction."""

from keys.services.advancing import advance_rotation
from keys.services.approval_ledger import record_approval_end, record_approval_uses
from keys.services.approvals import ApprovalDraft, deny_approval, grant_approval, request_approval
from keys.services.breakglass import Broken, break_glass, refuse_break_glass
from keys.services.bulk import Outcome, change_many
from keys.services.changes import Changes, bind_key, change_key, disable_key, drop_scopes, enable_key
from keys.services.creation import Created, Draft, Owner, create_key
from keys.services.ending import cancel_rotation, complete_rotation
from keys.services.executions import ExecutionDraft, record_execution
from keys.services.expiry import tell_of_expiry
from keys.services.exporting import export_keys
from keys.services.leaks import Reported, burn_secret, report_leak
from keys.services.leaving import settle_keys_of_leaver
from keys.services.noticing import record_first_networks, record_returns
from keys.services.policies import PolicyChange, change_policy
from keys.services.recipients import confirm_recipient, register_recipient, remove_recipient
from keys.services.revocation import revoke_key
from keys.services.rotating import Rotated, rotate_key
from keys.services.scopes import ScopeDraft, change_scope, create_scope
from keys.services.tiers import TierDraft, change_tier, create_tier

__all__ = [
    "ApprovalDraft",
    "Broken",
    "Changes",
    "Created",
    "Draft",
    "ExecutionDraft",
    "Outcome",
    "Owner",
    "PolicyChange",
    "Reported",
    "Rotated",
    "ScopeDraft",
    "TierDraft",
    "advance_rotation",
    "bind_key",
    "break_glass",
    "burn_secret",
    "cancel_rotation",
    "change_key",
    "change_many",
    "change_policy",
    "change_scope",
    "change_tier",
    "complete_rotation",
    "confirm_recipient",
    "create_key",
    "create_scope",
    "create_tier",
    "deny_approval",
    "disable_key",
    "drop_scopes",
    "enable_key",
    "export_keys",
    "grant_approval",
    "record_approval_end",
    "record_approval_uses",
    "record_execution",
    "record_first_networks",
    "record_returns",
    "refuse_break_glass",
    "register_recipient",
    "remove_recipient",
    "report_leak",
    "request_approval",
    "revoke_key",
    "rotate_key",
    "settle_keys_of_leaver",
    "tell_of_expiry",
]
