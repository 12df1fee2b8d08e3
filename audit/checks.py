"""What must be right before anything is served: the ledger's name and key, and what the application's login may do."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from audit import entry as entry_rules
from audit import ledger
from audit.errors import EntryInvalid
from audit.webhooks import sending

TABLES = ["audit_entry", "audit_sealed", "audit_head", "audit_checkpoint"]
TRIGGERS = [
    ("audit_entry", "audit_entry_keep"),
    ("audit_entry", "audit_entry_keep_all"),
    ("audit_sealed", "audit_sealed_keep"),
    ("audit_sealed", "audit_sealed_keep_all"),
    ("audit_head", "audit_head_keep"),
    ("audit_head", "audit_head_keep_all"),
    ("audit_head", "audit_head_grows"),
    ("audit_checkpoint", "audit_checkpoint_keep"),
    ("audit_checkpoint", "audit_checkpoint_keep_all"),
    ("audit_checkpoint", "audit_checkpoint_stays"),
]
LOGIN = """
    SELECT r.rolname, v.what FROM pg_catalog.pg_roles r, LATERAL (VALUES
        (r.rolsuper, 'is a superuser'),
        (r.rolbypassrls, 'bypasses row security'),
        (EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relowner = r.oid), 'owns tables'),
        (EXISTS (SELECT FROM pg_catalog.pg_auth_members m WHERE m.member = r.oid), 'is a member of another role')
    ) v (wrong, what)
    WHERE r.rolname IN (session_user, current_user) AND v.wrong
"""
MISSING = "SELECT name FROM unnest(%s::text[]) name WHERE pg_catalog.to_regclass(name) IS NULL"
NOT_ALWAYS = """
    SELECT e.name, e.relation FROM unnest(%s::text[], %s::text[]) e (relation, name)
    WHERE pg_catalog.to_regclass(e.relation) IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_trigger t
        WHERE t.tgrelid = pg_catalog.to_regclass(e.relation) AND t.tgname = e.name AND t.tgenabled = 'A')
"""
WRITABLE = """
    SELECT c.relname FROM pg_catalog.pg_class c
    WHERE c.oid IN (SELECT pg_catalog.to_regclass(name) FROM unnest(%s::text[]) name)
        AND pg_catalog.has_table_privilege(current_user, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER')
"""


@checks.register("audit")
def check_ledger_settings(app_configs: object, **_options: Any) -> list[checks.CheckMessage]:  # noqa: ARG001
    """Refuse a missing public key, and a host that can't stand in a log's name."""
    found: list[checks.CheckMessage] = []
    try:
        ledger.public_key()
    except ImproperlyConfigured as error:
        found.append(checks.Error(str(error), id="audit.E001"))
    try:
        entry_rules.origin(settings.LEDGER_ORIGIN_HOST, "org_" + 20 * "a")
    except EntryInvalid:
        message = (
            "LEDGER_ORIGIN_HOST is not a host name in lower case, without a port, of at most 167 characters."
        )
        found.append(checks.Error(message, id="audit.E002"))
    return found


@checks.register("audit")
def check_webhook_authorities(app_configs: object, **_options: Any) -> list[checks.CheckMessage]:  # noqa: ARG001
    """Refuse a file of authorities that can't be read: every webhook would fail."""
    try:
        sending.trust(settings.WEBHOOK_CA_FILE)
    except OSError as error:
        reason = error.strerror or "it holds no certificate"
        return [checks.Error(f"KEYSTEAD_WEBHOOK_CA_FILE can't be read: {reason}.", id="audit.E004")]
    return []


@checks.register(checks.Tags.database)
def check_login(
    app_configs: object,  # noqa: ARG001
    databases: Sequence[str] | None = None,
    **_options: Any,
) -> list[checks.CheckMessage]:
    """Report what `refuse_unsafe_login` refuses, but for tables that are still to be migrated."""
    if "default" not in (databases or ()):
        return []
    return [checks.Error(problem, id="audit.E003") for problem in unsafe_login()]


def refuse_unsafe_login() -> None:
    """Refuse to serve with a login that could change the ledger; a server calls it at its start.

    Raises `ImproperlyConfigured` with what is wrong, and `django.db.DatabaseError` where the database does not
    answer (spec LEDGER, "Holding it").
    """
    if problems := _missing_tables() + unsafe_login():
        raise ImproperlyConfigured(" ".join(problems))


def unsafe_login() -> list[str]:
    """Return what makes the application's login, or the ledger that it finds, unfit to serve; one sentence each."""
    relations, names = (list(column) for column in zip(*TRIGGERS, strict=True))
    return [
        *(f"The application's login {name} {what}." for name, what in _rows(LOGIN)),
        *(f"The application's login may write to {name} itself." for (name,) in _rows(WRITABLE, TABLES)),
        *(
            f"The trigger {name} of {relation} is not ENABLE ALWAYS."
            for name, relation in _rows(NOT_ALWAYS, relations, names)
        ),
    ]


def _missing_tables() -> list[str]:
    return [f"The table {name} is missing: run manage.py migrate." for (name,) in _rows(MISSING, TABLES)]


def _rows(sql: str, *parameters: list[str]) -> list[tuple[str, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        found: list[tuple[str, ...]] = cursor.fetchall()
    return found
