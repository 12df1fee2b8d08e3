"""What several of the services need: whose ledger, the lock of an organization, refusals by the database in words."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from django.db import IntegrityError

from audit import ledger, tenancy
from audit.actors import Actor
from orgs.errors import Gone, OrgsError
from orgs.models import Organization

# The constraint that speaks, and the field of the form that it speaks of.
TAKEN = {
    "orgs_organization_slug_key": ("slug", "Another organization has this short name."),
    "orgs_plan_pkey": ("slug", "Another plan has this short name."),
    "orgs_user_email_key": ("email", "There is already an account with this address."),
    "project_name_unique": ("name", "A project beside it has this name."),
    "environment_slug_unique": ("slug", "Another environment has, or had, this short name."),
    "membership_unique": ("", "This person already has a role there."),
}


@contextmanager
def recording(organization_id: str, actor: Actor) -> Iterator[ledger.Recorder]:
    """Work in one organization's rows and ledger, within the caller's transaction or one of its own."""
    with tenancy.within(organization_id), ledger.recording(organization_id, actor) as entry:
        yield entry


@contextmanager
def operator_recording(actor: Actor) -> Iterator[ledger.Recorder]:
    """Record what belongs to no organization (users, plans) in the ledger of the operator's.

    Not to be used inside a transaction that works `within` another organization: its ledger could not be written.
    """
    with (
        tenancy.everywhere(tenancy.Reason.OPERATOR_LEDGER),
        ledger.recording(tenancy.operator_id(), actor) as entry,
    ):
        yield entry


@contextmanager
def refusing(error: type[OrgsError]) -> Iterator[None]:
    """Turn a constraint of `TAKEN` that the database refused into `error`, at its field."""
    try:
        yield
    except IntegrityError as refused:
        diagnosis = getattr(refused.__cause__, "diag", None)
        constraint = getattr(diagnosis, "constraint_name", None)
        if constraint not in TAKEN:
            raise
        field, detail = TAKEN[constraint]
        raise error(detail, field=field) from refused


def lock(organization_id: str) -> Organization:
    """Return the organization, locked until the transaction ends, so that its members and tree stand still.

    Raises:
        Gone: there is none.
    """
    found = Organization.objects.select_for_update(no_key=True).filter(pk=organization_id).first()
    if found is None:
        raise Gone
    return found


def difference(before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """Return `before` and `after` of the fields that changed, as an entry tells of them; empty where none did."""
    changed = [name for name, value in after.items() if before[name] != value]
    if not changed:
        return {}
    return {
        "before": {name: before[name] for name in changed},
        "after": {name: after[name] for name in changed},
    }
