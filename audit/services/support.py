"""What support staff open, look at and close: each in the ledger of the organization that it is about.

A customer reads there who came, why, what they saw and when they left; searches over all organizations stand in the
operator's ledger, and in each ledger of which entries were shown (spec PAGES, Support console).
"""

from collections.abc import Mapping
from typing import Any, Final

from django.db import IntegrityError, connection, transaction

from audit import ids, ledger, ports, redaction, tenancy
from audit.actors import Actor
from audit.acts import Act
from audit.errors import SupportRefused
from audit.models import SupportEnd, SupportKind, SupportSession
from audit.models.support import MOST_MINUTES, REASON_MAX, REASON_MIN
from audit.support import access

PORTAL: Final = Actor.system("portal")
ALREADY: Final = "support_one_at_a_time"
# Guarded: of two who close, one does.
CLOSE: Final = """
    UPDATE audit_supportsession SET ended_at = clock_timestamp(), ended_why = %s
    WHERE id = %s AND ended_at IS NULL AND (%s <> 'lapsed' OR expires_at <= clock_timestamp())
    RETURNING id
"""
LAPSED: Final = """
    SELECT id, organization_id FROM audit_supportsession
    WHERE ended_at IS NULL AND expires_at <= clock_timestamp() ORDER BY expires_at LIMIT 200
"""


def open_visit(organization_id: str, *, actor: Actor, reason: str, minutes: int) -> SupportSession:
    """Open one customer's organization to a staff person, to read alone; their visit before it ends.

    Records `support.opened` in the customer's ledger, with the reason sealed, and `support.closed` of the one before.

    Args:
        organization_id: not the operator's own.
        actor: who holds the role.
        reason: 10 to 400 characters, for the customer to read.
        minutes: 1 to 240, by the database's clock.

    Raises:
        SupportRefused: no such customer, no role, no reason, or another was opened at this moment.
    """
    with tenancy.everywhere(tenancy.Reason.SUPPORT_SESSION):
        found = _directory().customers([organization_id]).get(organization_id)
        if found is None or found.is_operator:
            raise SupportRefused("There is no such customer.")
        return _open(SupportKind.VISIT, organization_id, actor, reason, minutes)


def open_search(*, actor: Actor, reason: str, minutes: int) -> SupportSession:
    """Let a staff person search every organization's entries for a time; their searches before end.

    Records `support.opened` in the operator's ledger. Arguments and errors as `open_visit`.
    """
    with tenancy.everywhere(tenancy.Reason.SUPPORT_SESSION):
        return _open(SupportKind.SEARCH, tenancy.operator_id(), actor, reason, minutes)


def close_support(session: SupportSession, *, actor: Actor, why: SupportEnd = SupportEnd.LEFT) -> bool:
    """Close a visit or searches and record `support.closed` where they were opened; return whether this call did it.

    `LAPSED` closes only what is over by the database's clock.
    """
    with tenancy.everywhere(tenancy.Reason.SUPPORT_SESSION):
        return _close(session.id, session.organization_id, actor, why)


def close_all_support(user_id: str, *, why: SupportEnd, actor: Actor = PORTAL) -> int:
    """Close all that a person has open; return how many. In the caller's transaction where one is open.

    The customers read that the product did it: who took a role away is no business of theirs.
    """
    with tenancy.everywhere(tenancy.Reason.SUPPORT_SESSION):
        still = SupportSession.objects.filter(user_id=user_id, ended_at=None).order_by("organization_id")
        found = list(still.values_list("id", "organization_id"))
        return sum(_close(id_, organization_id, actor, why) for id_, organization_id in found)


def close_lapsed_support() -> int:
    """Close what is over by the database's clock, each in a transaction of its own; return how many."""
    with tenancy.everywhere(tenancy.Reason.SUPPORT_SESSION), connection.cursor() as cursor:
        cursor.execute(LAPSED)
        found: list[tuple[str, str]] = cursor.fetchall()
    closed = 0
    for id_, organization_id in found:
        with tenancy.everywhere(tenancy.Reason.SUPPORT_SESSION):
            closed += _close(id_, organization_id, PORTAL, SupportEnd.LAPSED)
    return closed


def record_page(
    session_id: str,
    organization_id: str,
    *,
    actor: Actor,
    page: str,
    target: str = "",
    facts: Mapping[str, Any] | None = None,
    query: str = "",
) -> None:
    """Record `support.viewed` for a page that a visit shows, in the transaction that reads it.

    Args:
        session_id: the visit's.
        organization_id: whose page.
        actor: the staff person.
        page: which one, in words.
        target: the id of what it is about; the organization's where it is about no one thing.
        facts: more ids that the address names.
        query: the address's query, sealed: filters name people.
    """
    with ledger.recording(organization_id, actor) as entry:
        entry(
            Act.SUPPORT_VIEWED,
            target=target or organization_id,
            data={"page": page, "session": session_id, **(facts or {})},
            sealed={"query": query},
        )


def record_search(session: SupportSession, query: str, *, actor: Actor, found: Mapping[str, int]) -> None:
    """Record one page of a search in the operator's ledger, whether or not it found anything: `support.viewed`.

    Args:
        session: the searches that it is one of.
        query: what was asked, sealed.
        actor: the staff person.
        found: how many entries of each organization it will show.

    Raises:
        SupportRefused: they were closed meanwhile, or their time is up.
        LedgerUnavailable: it could not be written.
    """
    facts = {"organizations": len(found), "entries": sum(found.values())}
    with tenancy.within(session.organization_id):
        if not access.hold(session.id):
            raise SupportRefused("Your searches are over.")
        record_page(
            session.id,
            session.organization_id,
            actor=actor,
            page="search",
            target=session.id,
            facts=facts,
            query=query,
        )


def tell_of_search(session: SupportSession, organization_id: str, *, actor: Actor, entries: int) -> None:
    """Record in a customer's ledger that a search shows so many of its entries, and why: `support.viewed`.

    What was asked for is not told: it may name another customer's people.

    Raises:
        LedgerUnavailable: it could not be written; then nothing of that organization may be shown.
    """
    with tenancy.within(organization_id), ledger.recording(organization_id, actor) as entry:
        entry(
            Act.SUPPORT_VIEWED,
            target=session.id,
            data={"page": "search", "session": session.id, "entries": entries},
            sealed={"reason": session.reason},
        )


def _open(kind: SupportKind, organization_id: str, actor: Actor, reason: str, minutes: int) -> SupportSession:
    reason = redaction.redact(" ".join(reason.split()))
    if not REASON_MIN <= len(reason) <= REASON_MAX:
        raise SupportRefused(f"A reason of {REASON_MIN} to {REASON_MAX} characters is needed.")
    if not 1 <= minutes <= MOST_MINUTES:
        raise SupportRefused("At most four hours.")
    if not _directory().is_support(actor.id):
        raise SupportRefused("Only support staff may.")
    try:
        with transaction.atomic():
            return _replace(kind, organization_id, actor, reason, minutes)
    except IntegrityError as refused:
        if getattr(getattr(refused.__cause__, "diag", None), "constraint_name", None) != ALREADY:
            raise
        raise SupportRefused("Another was opened at this moment. Look again.") from refused


def _replace(
    kind: SupportKind, organization_id: str, actor: Actor, reason: str, minutes: int
) -> SupportSession:
    """Close what is open of this kind and open another; the ledgers are written in order of organization."""
    with ledger.recording(organization_id, actor) as entry:
        still = SupportSession.objects.filter(user_id=actor.id, kind=kind, ended_at=None)
        for id_, other in list(still.values_list("id", "organization_id")):
            _close(id_, other, actor, SupportEnd.REPLACED)
        session = SupportSession(
            id=ids.new("sup"),
            organization_id=organization_id,
            kind=kind,
            user_id=actor.id,
            reason=reason,
            minutes=minutes,
        )
        _insert(session)
        entry(
            Act.SUPPORT_OPENED,
            target=session.id,
            data={"kind": str(kind), "expires_at": session.expires_at},
            sealed={"reason": reason},
        )
    return session


def _insert(session: SupportSession) -> None:
    """Store it; the database sets its times."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO audit_supportsession"
            " (id, organization_id, kind, user_id, reason, minutes, opened_at, expires_at, ended_why)"
            " VALUES (%s, %s, %s, %s, %s, %s, now(), now(), '') RETURNING opened_at, expires_at",
            [
                session.id,
                session.organization_id,
                session.kind,
                session.user_id,
                session.reason,
                session.minutes,
            ],
        )
        session.opened_at, session.expires_at = cursor.fetchone()


def _close(id_: str, organization_id: str, actor: Actor, why: SupportEnd) -> bool:
    by = PORTAL if why is SupportEnd.LAPSED else actor
    with ledger.recording(organization_id, by) as entry:
        with connection.cursor() as cursor:
            cursor.execute(CLOSE, [why, id_, why])
            is_closed = cursor.fetchone() is not None
        if is_closed:
            entry(Act.SUPPORT_CLOSED, target=id_, data={"reason": str(why)})
    return is_closed


def _directory() -> ports.SupportDirectory:
    if not ports.support:
        raise SupportRefused("Nobody knows the customers here.")
    return ports.support[0]
