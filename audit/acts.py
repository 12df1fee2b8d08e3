"""The acts a ledger can tell of: one closed list (EVENTS.md, Acts).

It grows; a name in it is never changed and never used for something else, because entries that carry it
can't be rewritten, and webhooks subscribe to it. Names are `subject.what_happened`, in the past tense.
"""

# ruff: noqa: S105 - "password", "token" and "secret" are in names of acts; no value is a secret.

from enum import StrEnum
from itertools import groupby
from typing import Final


class Act(StrEnum):
    """What happened, as the `act` of an entry and the `type` of a webhook."""

    ORGANIZATION_CREATED = "organization.created"
    ORGANIZATION_CHANGED = "organization.changed"
    ORGANIZATION_SUSPENDED = "organization.suspended"
    ORGANIZATION_RESUMED = "organization.resumed"
    ORGANIZATION_CLOSED = "organization.closed"

    USER_CREATED = "user.created"
    USER_DISABLED = "user.disabled"
    USER_ENABLED = "user.enabled"
    USER_STAFF_CHANGED = "user.staff_changed"
    USER_PASSWORD_CHANGED = "user.password_changed"
    USER_MFA_CHANGED = "user.mfa_changed"

    SESSION_STARTED = "session.started"
    SESSION_REVOKED = "session.revoked"

    TOKEN_ISSUED = "token.issued"
    TOKEN_REVOKED = "token.revoked"

    SCOPE_CREATED = "scope.created"
    SCOPE_CHANGED = "scope.changed"

    TIER_CREATED = "tier.created"
    TIER_CHANGED = "tier.changed"

    MEMBER_INVITED = "member.invited"
    MEMBER_INVITATION_WITHDRAWN = "member.invitation_withdrawn"
    MEMBER_JOINED = "member.joined"
    MEMBER_ROLE_CHANGED = "member.role_changed"
    MEMBER_REMOVED = "member.removed"

    PROJECT_CREATED = "project.created"
    PROJECT_CHANGED = "project.changed"
    PROJECT_ARCHIVED = "project.archived"

    ENVIRONMENT_CREATED = "environment.created"
    ENVIRONMENT_CHANGED = "environment.changed"
    ENVIRONMENT_ARCHIVED = "environment.archived"

    POLICY_CHANGED = "policy.changed"

    PLAN_CREATED = "plan.created"
    PLAN_CHANGED = "plan.changed"

    KEY_CREATED = "key.created"
    KEY_CHANGED = "key.changed"
    KEY_SCOPES_CHANGED = "key.scopes_changed"
    KEY_DISABLED = "key.disabled"
    KEY_ENABLED = "key.enabled"
    KEY_REVOKED = "key.revoked"
    KEY_EXPIRED = "key.expired"
    KEY_EXPIRING = "key.expiring"
    KEY_LEAKED = "key.leaked"
    KEY_FIRST_NETWORK = "key.first_network"

    ROTATION_STARTED = "rotation.started"
    ROTATION_FETCHED = "rotation.fetched"
    ROTATION_TARGET_MOVED = "rotation.target_moved"
    ROTATION_COMPLETED = "rotation.completed"
    ROTATION_CANCELLED = "rotation.cancelled"
    ROTATION_SUPERSEDED = "rotation.superseded"
    ROTATION_OVERDUE = "rotation.overdue"
    ROTATION_FAILED = "rotation.failed"

    RECIPIENT_REGISTERED = "recipient.registered"
    RECIPIENT_REMOVED = "recipient.removed"

    BREAKGLASS_EXECUTED = "breakglass.executed"
    BREAKGLASS_REFUSED = "breakglass.refused"

    APPROVAL_REQUESTED = "approval.requested"
    APPROVAL_GRANTED = "approval.granted"
    APPROVAL_DENIED = "approval.denied"
    APPROVAL_EXPIRED = "approval.expired"
    APPROVAL_USED = "approval.used"

    EXECUTION_RECORDED = "execution.recorded"
    EXECUTION_MISMATCH = "execution.mismatch"

    WEBHOOK_CREATED = "webhook.created"
    WEBHOOK_CHANGED = "webhook.changed"
    WEBHOOK_DISABLED = "webhook.disabled"
    WEBHOOK_SECRET_ROTATED = "webhook.secret_rotated"
    WEBHOOK_REMOVED = "webhook.removed"
    WEBHOOK_RESENT = "webhook.resent"
    WEBHOOK_TESTED = "webhook.tested"

    SSO_CONNECTION_CREATED = "sso.connection_created"
    SSO_CHANGED = "sso.changed"
    SSO_ENABLED = "sso.enabled"
    SSO_DISABLED = "sso.disabled"
    SSO_DOMAIN_VERIFIED = "sso.domain_verified"
    SSO_LOGIN_REFUSED = "sso.login_refused"

    SUPPORT_OPENED = "support.opened"
    SUPPORT_VIEWED = "support.viewed"
    SUPPORT_CLOSED = "support.closed"

    EXPORT_REQUESTED = "export.requested"
    EXPORT_MADE = "export.made"
    EXPORT_REMOVED = "export.removed"

    LEDGER_OPENED = "ledger.opened"
    LEDGER_CHECKPOINT = "ledger.checkpoint"
    LEDGER_ERASURE = "ledger.erasure"
    LEDGER_ERASURE_REQUESTED = "ledger.erasure_requested"
    LEDGER_KEY_ADDED = "ledger.key_added"
    LEDGER_KEY_RETIRED = "ledger.key_retired"
    LEDGER_REOPENED = "ledger.reopened"

    CLOCK_REGRESSED = "clock.regressed"


# What stands for all acts of a subject, those that are added later too: `key.*`.
ANY: Final = ".*"
# Acts by their subject, in order of the alphabet.
GROUPS: Final = {
    subject: tuple(str(act) for act in acts)
    for subject, acts in groupby(sorted(Act), lambda act: act.partition(".")[0])
}


def named(text: str) -> tuple[str, ...]:
    """Return the acts that a filter names: one, or all of a subject (`key.*`); raises `ValueError` for none of them."""
    if text.endswith(ANY) and (group := GROUPS.get(text.removesuffix(ANY))):
        return group
    return (str(Act(text)),)
