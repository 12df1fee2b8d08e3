"""Asking for an approval, and deciding on it: never one's own, whoever holds what at the moment of the decision."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.db import connection

from audit import ledger
from audit.acts import Act
from keys import catalogue, clock, governance, parameters
from keys.callers import Caller
from keys.errors import DecisionRefused, Forbidden, Invalid, PersonRequired, StateForbids
from keys.governance import ApprovalState, Bar, Decision, Step
from keys.models import ApiKey, Approval
from keys.policy import ABSENT, Absent, check_line, check_note, check_reason
from keys.scopes import SCOPE, covers, holds
from keys.services.common import approval_rule_for, collect, policy_of
from orgs.members import Member, grants
from orgs.models import Membership
from orgs.roles import Permission
from orgs.services.common import lock

MAX_RESOURCE_BYTES: Final = 128
MAX_INCIDENT_BYTES: Final = 128
MAX_STEP_BYTES: Final = 128
HEX: Final = frozenset("0123456789abcdef")
DIGEST_DIGITS: Final = 64
_ENDED: Final = {
    ApprovalState.GRANTED: "This was granted already.",
    ApprovalState.USED_UP: "This was granted already.",
    ApprovalState.DENIED: "This was denied already.",
    ApprovalState.EXPIRED: "This request has expired.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalDraft:
    """An approval as somebody asks for it.

    Either `parameters` (any JSON, kept and shown to whoever decides) or their digest, or both, which then must agree.
    `valid` is an end, a number of seconds, or None for an hour.
    """

    key: ApiKey
    scope: str
    reason: str
    resource: str = ""
    parameters: Any | Absent = ABSENT
    parameters_digest: str | None = None
    steps: Sequence[Step] = field(default_factory=tuple)
    incident: str = ""
    valid: datetime | int | None = None
    uses: int = 1


def request_approval(draft: ApprovalDraft, *, actor: Caller) -> Approval:
    """Ask that a bound key may do one thing with a scope of risk `write` or `admin`.

    Writes the approval, with the people behind the key that asks, and the entry `approval.requested`. The caller's
    access to the key was checked (404).

    Raises:
        Forbidden: neither the key itself nor a caller who reaches its project.
        StateForbids: the key needs no approvals, or has ended.
        Invalid, InvalidMany: a field out of its bounds (spec EVENTS, Governed execution), or of the organization's own.
    """
    key = draft.key
    if not (_is_itself(key, actor) or actor.reaches(key.project)):
        raise Forbidden("You may not ask for approvals of this key.", field="key")
    with ledger.recording(key.organization_id, actor) as entry:
        now = _begin(key.organization_id)
        _check_key(key, now)
        approval = _checked(draft, actor, now)
        approval.save(force_insert=True)
        sealed = {"reason": approval.reason}
        entry(Act.APPROVAL_REQUESTED, target=approval.id, data=_asked(approval), sealed=sealed)
    return read_approval(approval.id)


def grant_approval(approval: Approval, *, actor: Caller, note: str = "") -> Approval:
    """Grant a request, as a person other than whoever asked; entry `approval.granted`.

    Raises:
        PersonRequired: a key decides.
        DecisionRefused: the person's own request, a key's that they are behind, or not their role, as all of it is now.
        StateForbids: it was decided on already, it has expired, or its key has ended.
        Invalid: a note out of bounds (field `note`).
    """
    return _decide(approval, Decision.GRANTED, actor, note)


def deny_approval(approval: Approval, *, actor: Caller, note: str = "") -> Approval:
    """Deny a request; entry `approval.denied`. Raises as `grant_approval`."""
    return _decide(approval, Decision.DENIED, actor, note)


def read_approval(approval_id: str) -> Approval:
    """Return an approval as it is now, with its key and its counter."""
    return Approval.objects.whole().get(pk=approval_id)


def bar_for(member: Member, approval: Approval) -> Bar | None:
    """Return why a person may not decide on a request, None where they may, as far as their session knows."""
    has_role = member.may(Permission.APPROVALS_GRANT, approval.key.project)
    return _bar(member.user.id, approval, has_role=has_role)


def people_behind(key_id: str, version: int | None) -> list[str]:
    """Return the people behind a key that presents one version of its secret, None for any."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT keys_people_behind(%s, %s) AS id ORDER BY id", [key_id, version])
        return [row[0] for row in cursor.fetchall()]


def _decide(approval: Approval, decision: Decision, actor: Caller, note: str) -> Approval:
    if actor.member is None:
        raise PersonRequired
    text = check_note(note)
    with ledger.recording(approval.organization_id, actor) as entry:
        # Whoever loses their role meanwhile waits for this, or this for them: what counts is read after.
        lock(approval.organization_id)
        Approval.objects.select_for_update(no_key=True).filter(pk=approval.pk).first()
        found = read_approval(approval.pk)
        barred = _bar(actor.member.user.id, found, has_role=_has_role(actor.member, found))
        if barred is not None:
            raise DecisionRefused(barred.value)
        now = clock.now()
        if decision is Decision.GRANTED:
            _check_key(found.key, now)
        undecided = Approval.objects.filter(pk=found.pk).in_state(ApprovalState.REQUESTED, now)
        if not undecided.update(decision=decision, decided_at=now, decided_by=actor.id, note=text):
            raise StateForbids(_ENDED[found.state(now)])
        act = Act.APPROVAL_GRANTED if decision is Decision.GRANTED else Act.APPROVAL_DENIED
        data = facts_of(found) | {"requested_by": found.requested_by, "valid_until": found.valid_until}
        entry(act, target=found.id, data=data, sealed={"note": text})
    return read_approval(found.id)


def facts_of(approval: Approval) -> dict[str, Any]:
    """Return what every entry about an approval says of it."""
    return {
        "name": approval.key.name,
        "key": approval.key_id,
        "scope": approval.scope,
        "resource": approval.resource,
        "parameters_digest": approval.parameters_digest,
        "incident": approval.incident,
    }


def _has_role(member: Member, approval: Approval) -> bool:
    """Tell whether a person may decide by what they are in this transaction, not by what their request brought."""
    mine = Membership.objects.filter(
        organization_id=approval.organization_id, user_id=member.user.id, user__is_active=True
    )
    fresh = Member(
        id=member.id,
        user=member.user,
        organization=member.organization,
        project=None,
        grants=grants(list(mine.select_related("project"))),
    )
    return fresh.may(Permission.APPROVALS_GRANT, approval.key.project)


def _bar(user_id: str, approval: Approval, *, has_role: bool) -> Bar | None:
    """Ask the rule, with whoever stood behind the key when it asked, and whoever does now."""
    behind = set(approval.behind)
    if approval.requested_by.startswith("key_"):
        behind.update(people_behind(approval.requested_by, approval.requested_version))
    return governance.bar(user_id, requested_by=approval.requested_by, behind=behind, has_role=has_role)


def hold_requests(organization_id: str) -> None:
    """Let nobody else ask for approvals of an organization until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('keys:approve:' || %s, 0))", [organization_id]
        )


def _begin(organization_id: str) -> datetime:
    """Return the time of the request, in the order of commits: a list by time then never skips a late comer."""
    hold_requests(organization_id)
    return clock.now()


def _is_itself(key: ApiKey, actor: Caller) -> bool:
    return actor.presented is not None and actor.presented.key.id == key.id


def _check_key(key: ApiKey, now: datetime) -> None:
    if not key.approval_bound:
        raise StateForbids("This key is not bound to approvals: it needs none.")
    if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now):
        raise StateForbids("A key that has ended needs no approval.")


def _checked(draft: ApprovalDraft, actor: Caller, now: datetime) -> Approval:
    rule = approval_rule_for(policy_of(draft.key.organization_id))
    scope, resource, reason, digest, steps, incident, until, uses = collect(
        [
            lambda: _check_scope(draft.scope, draft.key),
            lambda: check_line(draft.resource, "resource", MAX_RESOURCE_BYTES),
            lambda: check_reason(draft.reason),
            lambda: _check_parameters(draft),
            lambda: check_steps(draft.steps),
            lambda: check_line(draft.incident, "incident", MAX_INCIDENT_BYTES),
            lambda: governance.valid_until(draft.valid, now, rule),
            lambda: governance.check_uses(draft.uses, rule),
        ]
    )
    presented = actor.presented
    return Approval(
        organization_id=draft.key.organization_id,
        key=draft.key,
        scope=scope,
        resource=resource,
        parameters_digest=digest,
        parameters=None if draft.parameters is ABSENT else draft.parameters,
        steps=[{"name": step.name, "digest": step.digest} for step in steps],
        reason=reason,
        incident=incident,
        request_id=actor.request_id,
        valid_until=until,
        uses=uses,
        requested_at=now,
        requested_by=actor.id,
        requested_version=presented.version if presented else None,
        behind=people_behind(presented.key.id, presented.version) if presented else [],
    )


def _check_scope(scope: str, key: ApiKey) -> str:
    """Return a scope that the key carries and needs an approval for."""
    if SCOPE.fullmatch(scope) is None:
        raise Invalid("A scope is written resource:action, in lower case.", field="scope")
    known = catalogue.load()
    if not holds(key.scopes, scope) or not any(covers(scope, name) for name in known):
        raise Invalid("The key does not carry this scope.", field="scope")
    if not governance.needs_approval(scope, catalogue.risks(known)):
        raise Invalid("This scope only reads: it needs no approval.", field="scope")
    return scope


def _check_parameters(draft: ApprovalDraft) -> str:
    """Return the digest of the parameters: the one that was given, that of what was given, or both if they agree."""
    if draft.parameters is ABSENT:
        if draft.parameters_digest is None:
            raise Invalid("Either the parameters or their digest.", field="parameters_digest")
        return check_digest(draft.parameters_digest, "parameters_digest")
    found = parameters.digest(draft.parameters)
    if draft.parameters_digest not in {None, found}:
        raise Invalid("This is not the digest of the parameters.", field="parameters_digest")
    return found


def check_steps(steps: Sequence[Step]) -> Sequence[Step]:
    """Return the steps of a plan or an execution.

    Raises:
        Invalid: more than 100, a name that is empty, too long (128 bytes) or unprintable, or no digest (field
            `steps[n].…`).
    """
    if len(steps) > governance.MAX_STEPS:
        raise Invalid(f"At most {governance.MAX_STEPS} steps.", field="steps")
    for number, step in enumerate(steps):
        check_line(step.name, f"steps[{number}].name", MAX_STEP_BYTES)
        if not step.name.strip():
            raise Invalid("A step needs a name.", field=f"steps[{number}].name")
        check_digest(step.digest, f"steps[{number}].digest")
    return steps


def check_digest(digest: str, where: str) -> str:
    """Return a digest: 64 hexadecimal digits, in lower case; raises `Invalid` (field `where`)."""
    if len(digest) != DIGEST_DIGITS or not HEX.issuperset(digest):
        raise Invalid("A SHA-256 in 64 hexadecimal digits, in lower case.", field=where)
    return digest


def _asked(approval: Approval) -> dict[str, Any]:
    plan = parameters.plan_digest(approval.steps) if approval.steps else ""
    return facts_of(approval) | {
        "uses": approval.uses,
        "valid_until": approval.valid_until,
        "steps": len(approval.steps),
        "plan_digest": plan,
    }
