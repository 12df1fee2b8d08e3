"""Bound keys and approvals for the tests, made by the services as pages and API make them."""

import hashlib
from typing import Any

from django.db import connection

from audit import tenancy
from keys import callers, services
from keys.callers import Presented
from keys.governance import Step
from keys.models import ApiKey, Approval
from keys.secret import Kind, Mode
from keys.services import ApprovalDraft, Created, ExecutionDraft
from keys.services.common import policy_of
from orgs.models import Organization, User
from tests import builders, key_builders

SCOPES = ("incidents:read", "incidents:write", "approvals:request")


def digest(text: str = "") -> str:
    """Return some SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()


def bound_key(where: Organization, by: User, **changes: Any) -> Created:
    """Make a service key that is bound to approvals."""
    fields = {"kind": Kind.SERVICE, "scopes": list(SCOPES), "approval_bound": True}
    return key_builders.create(where, by, **{**fields, **changes})


def rule(where: Organization, by: User, **changes: Any) -> None:
    """Change an organization's policy, as the page does; `approvals_required`, `approval_max_hours`, and so on."""
    with tenancy.within(where.id):
        before = policy_of(where.id)
        fields = services.PolicyChange.__dataclass_fields__
        change = {name: changes.get(name, getattr(before, name)) for name in fields}
        services.change_policy(services.PolicyChange(**change), actor=builders.member(by, where))


def of_key(key: ApiKey, version: int = 1) -> callers.Caller:
    """Return a key as a caller of the API."""
    presented = Presented(
        key=key,
        version=version,
        project=key.project,
        mode=Mode.LIVE,
        scopes=tuple(key.scopes),
        is_operator=False,
    )
    return callers.of_key(presented, ip="192.0.2.9", user_agent="tests", request_id="req_tests")


def draft(key: ApiKey, **changes: Any) -> ApprovalDraft:
    """Return a plain request."""
    fields: dict[str, Any] = {
        "scope": "incidents:write",
        "reason": "INC-7: fail over",
        "resource": "db-7",
        "parameters_digest": digest("parameters"),
        "steps": [Step("drain", digest("drain")), Step("switch", digest("switch"))],
        "incident": "INC-7",
    }
    return ApprovalDraft(key=key, **{**fields, **changes})


def request(key: ApiKey, caller: callers.Caller | None = None, **changes: Any) -> Approval:
    """Ask for an approval, as the key itself unless told."""
    with tenancy.within(key.organization_id):
        return services.request_approval(draft(key, **changes), actor=caller or of_key(key))


def person(user: User, where: Organization) -> callers.Caller:
    """Return somebody as a caller of the services."""
    return callers.of_member(builders.member(user, where))


def grant(approval: Approval, where: Organization, by: User, **how: Any) -> Approval:
    """Grant a request."""
    with tenancy.within(where.id):
        return services.grant_approval(approval, actor=person(by, where), **how)


def deny(approval: Approval, where: Organization, by: User, **how: Any) -> Approval:
    """Deny a request."""
    with tenancy.within(where.id):
        return services.deny_approval(approval, actor=person(by, where), **how)


def granted(where: Organization, key: ApiKey, by: User, **changes: Any) -> Approval:
    """Ask as the key itself, and let somebody grant it."""
    return grant(request(key, **changes), where, by)


def execute(key: ApiKey, approval: Approval | None = None, **changes: Any) -> Any:
    """Record an execution of what was planned, as the key itself."""
    fields: dict[str, Any] = {
        "execution": builders.unique("run"),
        "parameters_digest": digest("parameters"),
        "steps": [Step("drain", digest("drain")), Step("switch", digest("switch"))],
        "approval": approval.id if approval else "",
    }
    given = {**fields, **changes}
    given.setdefault("results", [""] * len(given["steps"]))
    with tenancy.within(key.organization_id):
        return services.record_execution(ExecutionDraft(**given), actor=of_key(key))


def read(approval: Approval) -> Approval:
    """Read an approval as it is now."""
    with tenancy.within(approval.organization_id):
        return Approval.objects.whole().get(pk=approval.pk)


def behind(key: ApiKey, version: int | None = None) -> set[str]:
    """Return the people behind a key."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT keys_people_behind(%s, %s)", [key.id, version])
        return {row[0] for row in cursor.fetchall()}
