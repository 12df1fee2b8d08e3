"""What becomes of approvals by itself, told to the ledger once: their uses, which verification may not write there, and
their end."""

from audit import ledger
from audit.actors import WORKER, Actor
from audit.acts import Act
from keys import clock
from keys.governance import ApprovalState
from keys.models import Approval, ApprovalUse
from keys.services.approvals import facts_of, read_approval


def record_approval_uses(approval_id: str) -> int:
    """Append `approval.used`, by the key that used it, for each use of an approval that the ledger does not have yet.

    The uses are marked in the same transaction, by one guarded statement: two workers at once, or one that is killed,
    append none twice. Run within the approval's organization.

    Returns:
        How many uses were told of.
    """
    approval = read_approval(approval_id)
    with ledger.recording(approval.organization_id, WORKER):
        untold = ApprovalUse.objects.filter(approval_id=approval_id, told_at__isnull=True)
        uses = list(untold.select_for_update().order_by("number"))
        untold.filter(number__in=[use.number for use in uses]).update(told_at=clock.now())
        for use in uses:
            _record_use(approval, use)
    return len(uses)


def record_approval_end(approval_id: str) -> bool:
    """Append `approval.expired` where an approval's time is over before it was decided on or used up; once.

    Returns:
        Whether this call told of it.
    """
    with ledger.recording(read_approval(approval_id).organization_id, WORKER) as entry:
        Approval.objects.select_for_update(no_key=True).get(pk=approval_id)
        approval, now = read_approval(approval_id), clock.now()
        if approval.expired_told_at is not None or approval.state(now) is not ApprovalState.EXPIRED:
            return False
        Approval.objects.filter(pk=approval_id).update(expired_told_at=now)
        data = facts_of(approval) | {
            "valid_until": approval.valid_until,
            "uses_left": approval.uses - approval.spent,
            "was_granted": approval.decision != "",
        }
        entry(Act.APPROVAL_EXPIRED, target=approval_id, data=data)
    return True


def _record_use(approval: Approval, use: ApprovalUse) -> None:
    key = Actor(id=use.key_id, ip=str(use.ip or ""), request_id=use.request_id)
    data = facts_of(approval) | {
        "number": use.number,
        "uses": approval.uses,
        "used_at": use.at,
        "verifier": use.verifier_id,
    }
    with ledger.recording(approval.organization_id, key) as entry:
        entry(Act.APPROVAL_USED, target=approval.id, data=data)
