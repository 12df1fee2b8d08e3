"""Calls for the tests, written as verification writes them: by its login, a row for each."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connections

from keys.leaks import networks
from keys.models import ApiKey
from keys.usage import rolling
from orgs.models import Organization

VERIFY = "verify"
_CALL = """
INSERT INTO keys_call (at, organization_id, key_id, version, code, endpoint, region, ip, user_agent, request_id,
                       cost, calls, verifier_id)
VALUES (%(at)s, %(organization_id)s, %(key_id)s, %(version)s, %(code)s, %(endpoint)s, %(region)s, %(ip)s,
        %(user_agent)s, %(request_id)s, %(cost)s, %(calls)s, %(verifier_id)s)
"""
_UNKNOWN = "INSERT INTO keys_unknowncalls (organization_id, minute, network, code, calls) VALUES (%s, %s, %s, %s, %s)"


def ago(**length: float) -> datetime:
    """Return a time before now."""
    return datetime.now(UTC) - timedelta(**length)


def call(key: ApiKey, **changes: Any) -> None:
    """Record one call with a key, a valid one just now unless told."""
    calls(key, [changes])


def calls(key: ApiKey, all_changes: list[dict[str, Any]]) -> None:
    """Record many calls with a key."""
    plain = {
        "at": datetime.now(UTC),
        "organization_id": key.organization_id,
        "key_id": key.id,
        "version": 1,
        "code": "VALID",
        "endpoint": "/v1/incidents",
        "region": "eu-west-1",
        "ip": "203.0.113.9",
        "user_agent": "collector/4.2",
        "request_id": "req_1",
        "cost": 1,
        "calls": 1,
        "verifier_id": key.organization_id,
    }
    with connections[VERIFY].cursor() as cursor:
        cursor.executemany(_CALL, [{**plain, **changes} for changes in all_changes])


def use(key: ApiKey, **columns: Any) -> None:
    """Set what verification keeps of a key's use."""
    names = ", ".join(f"{name} = %({name})s" for name in columns)
    with connections[VERIFY].cursor() as cursor:
        cursor.execute(f"UPDATE keys_keyuse SET {names} WHERE key_id = %(id)s", {**columns, "id": key.id})


def asked(key: ApiKey, scope: str, days: int = 0) -> None:
    """Let a valid call have asked a key for a scope, so many days ago the last time."""
    with connections[VERIFY].cursor() as cursor:
        cursor.execute(
            "INSERT INTO keys_scopeuse (key_id, scope, organization_id, last_used_on) VALUES (%s, %s, %s, %s)",
            [key.id, scope, key.organization_id, ago(days=days).date()],
        )


def learned() -> None:
    """Learn where every call that was recorded so far came from."""
    _until("SELECT learned_until FROM keys_networkmark", networks.learn)


def rolled_up() -> None:
    """Roll up every call that was recorded so far."""
    _until("SELECT rolled_until FROM keys_usagemark", rolling.roll_up)


def _until(mark: str, work: Callable[[], int]) -> None:
    """Work until a mark is behind the present: a test of another database of this server can hold it up a moment."""
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())")
        present = cursor.fetchone()[0]
        for _ in range(1200):
            work()
            cursor.execute(f"SELECT ({mark}) >= %s::text::xid8", [str(present)])
            if cursor.fetchone()[0]:
                return
            time.sleep(0.05)
    raise AssertionError("a transaction is open for a minute")


def spend(where: Organization, period: int, spent: int) -> None:
    """Set what an organization has spent in a month."""
    with connections[VERIFY].cursor() as cursor:
        cursor.execute(
            "INSERT INTO keys_organizationspend (organization_id, period, spent) VALUES (%s, %s, %s)"
            " ON CONFLICT (organization_id) DO UPDATE SET period = excluded.period, spent = excluded.spent",
            [where.id, period, spent],
        )


def unknown(where: Organization, network: str, code: str = "NOT_FOUND", number: int = 1) -> None:
    """Count calls without a known key, made just now by an organization's verifiers."""
    with connections[VERIFY].cursor() as cursor:
        cursor.execute(_UNKNOWN, [where.id, datetime.now(UTC).replace(second=0), network, code, number])
