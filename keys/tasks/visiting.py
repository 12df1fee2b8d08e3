"""How a job goes from organization to organization: what fails at one is logged, and the others get their turn."""

from collections.abc import Callable, Iterable

import structlog

from audit import tenancy

log = structlog.get_logger("keystead.worker")


def visit(organizations: Iterable[str], work: Callable[[str], int]) -> int:
    """Do the work of each organization in steps, each its own transaction, until a step returns 0; return the sum."""
    done = 0
    for organization_id in sorted(set(organizations)):
        try:
            done += _exhaust(organization_id, work)
        except Exception:
            log.exception("a job failed at an organization", organization=organization_id)
    return done


def _exhaust(organization_id: str, work: Callable[[str], int]) -> int:
    done = 0
    while True:
        with tenancy.within(organization_id):
            step = work(organization_id)
        done += step
        if not step:
            return done
