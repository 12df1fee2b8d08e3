"""Which organization's rows a transaction sees: row-level security reads `app.organization` (spec PEOPLE, Tenants).

Unset means no rows. A forgotten filter therefore shows nothing of a stranger's; it does not guard against injection.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from django.db import connections, transaction

EVERYWHERE = "*"


class Reason(StrEnum):
    """Why a transaction may see every organization: a closed list, and each has one place in the code."""

    AUTHENTICATION = "authentication"
    ORGANIZATION_SWITCHER = "organization switcher"
    INVITATION = "an invitation is opened by its link"
    ADMIN = "the admin site"
    COMMAND = "a management command"
    OPERATOR_KEY = "a key of the operator's organization acts for its customers"
    POSSESSION = "a secret is reported by whoever holds or found it"
    CREATION = "an organization is created"
    WORKER = "the worker looks for what is due"
    HEALTH = "what waits to be delivered is counted"
    SUPPORT_SEARCH = "support staff search the audit history of every organization"
    SUPPORT_SESSION = "what support staff opened is found, opened or closed"
    OPERATOR_LEDGER = "what belongs to no organization is written to the operator's ledger"


@contextmanager
def within(organization_id: str, *, using: str = "default") -> Iterator[None]:
    """Run in a transaction that sees and writes one organization's rows alone."""
    if not organization_id or organization_id == EVERYWHERE:
        raise ValueError("an organization's id is needed")
    with _setting(organization_id, using):
        yield


@contextmanager
def everywhere(reason: Reason, *, using: str = "default") -> Iterator[None]:
    """Run in a transaction that sees every organization's rows, for one of the reasons on the closed list."""
    Reason(reason)
    with _setting(EVERYWHERE, using):
        yield


def operator_id() -> str:
    """Return the id of the operator's organization, whose ledger has what is nobody's: there is exactly one."""
    with everywhere(Reason.OPERATOR_LEDGER), connections["default"].cursor() as cursor:
        cursor.execute("SELECT id FROM orgs_organization WHERE is_operator")
        row: tuple[str] = cursor.fetchone()
    return row[0]


@contextmanager
def _setting(value: str, using: str) -> Iterator[None]:
    """Set the organization until the block ends.

    SET LOCAL lasts until the transaction's end, not the savepoint's: an inner block puts back what the outer one
    had. Where it fails, rolling back to the savepoint does.
    """
    is_inner = connections[using].in_atomic_block
    with transaction.atomic(using=using):
        previous = _set(value, using)
        yield
        if is_inner:
            _set(previous, using)


def _set(value: str, using: str) -> str:
    with connections[using].cursor() as cursor:
        cursor.execute(
            "WITH before AS MATERIALIZED (SELECT coalesce(current_setting('app.organization', true), '') AS value)"
            " SELECT before.value, set_config('app.organization', %s, true) FROM before",
            [value],
        )
        row: tuple[str, str] = cursor.fetchone()
    return row[0]
