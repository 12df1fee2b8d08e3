"""SIGKILL at every step of what changes keys, of our process or of PostgreSQL: an entry and its change, or neither."""

import json
import os
import subprocess
import sys
from typing import Any

import psycopg
import pytest

from portal import database_roles, dsn
from portal.embedded import Cluster
from tests import cluster
from tests.db import dying

SECONDS = 600
DATABASE = "keystead"
# Each kill of PostgreSQL costs it a restart: there, one step in so many.
EVERY = 5

# What must be the same: rows, and what the ledger says of them.
SAME = {
    "made": (
        "SELECT id FROM keys_apikey WHERE organization_id = %s",
        "SELECT target FROM audit_entry WHERE organization_id = %s AND act = 'key.created'",
    ),
    "revoked": (
        "SELECT id FROM keys_apikey WHERE organization_id = %s AND revoked_at IS NOT NULL",
        "SELECT target FROM audit_entry WHERE organization_id = %s AND act = 'key.revoked'",
    ),
    "rotated": (
        "SELECT id FROM keys_rotation WHERE organization_id = %s",
        "SELECT convert_from(leaf, 'UTF8')::jsonb #>> '{data,rotation}' FROM audit_entry"
        " WHERE organization_id = %s AND act = 'rotation.started'",
    ),
    "superseded": (
        "SELECT id FROM keys_rotation WHERE organization_id = %s AND superseded_at IS NOT NULL",
        "SELECT convert_from(leaf, 'UTF8')::jsonb #>> '{data,rotation}' FROM audit_entry"
        " WHERE organization_id = %s AND act = 'rotation.superseded'",
    ),
    "cancelled": (
        "SELECT id FROM keys_rotation WHERE organization_id = %s AND cancelled_at IS NOT NULL",
        "SELECT convert_from(leaf, 'UTF8')::jsonb #>> '{data,rotation}' FROM audit_entry"
        " WHERE organization_id = %s AND act = 'rotation.cancelled'",
    ),
    "completed": (
        "SELECT id FROM keys_rotation WHERE organization_id = %s AND completed_at IS NOT NULL AND mode <> 'immediate'",
        "SELECT convert_from(leaf, 'UTF8')::jsonb #>> '{data,rotation}' FROM audit_entry"
        " WHERE organization_id = %s AND act = 'rotation.completed'",
    ),
    "given back": (
        "SELECT id || ' ' || newest_version FROM keys_apikey WHERE organization_id = %(id)s",
        "SELECT k.id || ' ' || coalesce(max(r.new_version) FILTER (WHERE r.cancelled_at IS NULL), 1) FROM keys_apikey k"
        " LEFT JOIN keys_rotation r ON r.key_id = k.id WHERE k.organization_id = %(id)s GROUP BY k.id",
    ),
    "broken": (
        "SELECT id FROM keys_incident WHERE organization_id = %s",
        "SELECT target FROM audit_entry WHERE organization_id = %s AND act = 'breakglass.executed'",
    ),
    "incidents": (
        "SELECT incident_id || ' ' || key_id FROM keys_incidentkey WHERE organization_id = %s",
        "SELECT (convert_from(leaf, 'UTF8')::jsonb #>> '{data,part_of}') || ' ' || target FROM audit_entry"
        " WHERE organization_id = %s AND convert_from(leaf, 'UTF8')::jsonb #> '{data,part_of}' IS NOT NULL",
    ),
    "sealed": (
        "SELECT id FROM keys_rotation WHERE organization_id = %s AND sealed_secret IS NOT NULL",
        "SELECT convert_from(leaf, 'UTF8')::jsonb #>> '{data,rotation}' FROM audit_entry"
        " WHERE organization_id = %s AND act = 'rotation.started' AND actor = 'sys_worker'",
    ),
    "told": (
        "SELECT key_id FROM keys_notice WHERE organization_id = %s AND is_told",
        "SELECT target FROM audit_entry WHERE organization_id = %s AND act IN ('key.expiring', 'rotation.failed')",
    ),
    "asked": (
        "SELECT id FROM keys_approval WHERE organization_id = %s",
        "SELECT target FROM audit_entry WHERE organization_id = %s AND act = 'approval.requested'",
    ),
    "decided": (
        "SELECT id || ' ' || decision FROM keys_approval WHERE organization_id = %s AND decision <> ''",
        "SELECT target || ' ' || split_part(act, '.', 2) FROM audit_entry"
        " WHERE organization_id = %s AND act IN ('approval.granted', 'approval.denied')",
    ),
    "used": (
        "SELECT approval_id || ' ' || number FROM keys_approvaluse"
        " WHERE organization_id = %s AND told_at IS NOT NULL",
        "SELECT target || ' ' || (convert_from(leaf, 'UTF8')::jsonb #>> '{data,number}') FROM audit_entry"
        " WHERE organization_id = %s AND act = 'approval.used'",
    ),
    "executed": (
        "SELECT id || ' ' || verdict FROM keys_execution WHERE organization_id = %s",
        "SELECT target || ' ' || (convert_from(leaf, 'UTF8')::jsonb #>> '{data,parity}') FROM audit_entry"
        " WHERE organization_id = %s AND act = 'execution.recorded'",
    ),
    "mismatched": (
        "SELECT id FROM keys_execution WHERE organization_id = %s AND verdict = 'mismatch'",
        "SELECT target FROM audit_entry WHERE organization_id = %s AND act = 'execution.mismatch'",
    ),
    "erased": (
        "SELECT id FROM audit_erasure WHERE organization_id = %s AND finished_at IS NOT NULL AND addresses = '{}'",
        "SELECT DISTINCT convert_from(leaf, 'UTF8')::jsonb #>> '{data,erasure}' FROM audit_entry"
        " WHERE organization_id = %s AND act = 'ledger.erasure'",
    ),
    "remembered": (
        "SELECT DISTINCT actor FROM audit_entry JOIN audit_sealed USING (organization_id, epoch, index)"
        " WHERE organization_id = %(id)s AND starts_with(actor, 'usr_dying')",
        "SELECT DISTINCT actor FROM audit_entry e WHERE organization_id = %(id)s AND starts_with(actor, 'usr_dying')"
        " AND NOT EXISTS (SELECT FROM audit_erasure WHERE person_id = e.actor)",
    ),
    "secrets": (
        "SELECT key_id || ' ' || version FROM keys_keysecret WHERE organization_id = %s",
        "SELECT id || ' 1' FROM keys_apikey WHERE organization_id = %(id)s"
        " UNION ALL SELECT key_id || ' ' || new_version FROM keys_rotation WHERE organization_id = %(id)s",
    ),
}


def run(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=cluster.ROOT,
        env={**os.environ, **environment, "DJANGO_SETTINGS_MODULE": "portal.settings"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows(connection: psycopg.Connection, sql: str, organization_id: str) -> list[str]:
    parameters = {"id": organization_id} if "%(id)s" in sql else [organization_id]
    return sorted(row[0] for row in connection.execute(sql.encode(), parameters))


def check(superuser_url: str, environment: dict[str, str], found: dict[str, Any], least: int) -> None:
    """Assert that the ledgers tell of what happened, once each, and of nothing else."""
    assert found.keys() == dying.ACTS.keys()
    with psycopg.connect(superuser_url) as connection:
        for act, each in found.items():
            assert each["killed"] >= least, act
            for name, (changes, entries) in SAME.items():
                told = rows(connection, entries, each["organization"])
                assert rows(connection, changes, each["organization"]) == told, (act, name)
    run(environment, "manage.py", "ledger", "verify")


def test_the_process_is_killed_at_every_step():
    name = f"{cluster.database()}_dying"
    environment = cluster.new_clone(name)
    found = json.loads(run(environment, "-m", "tests.db.dying", "process", "1"))
    check(dsn.replaced(cluster.cluster().url(), dbname=name), environment, found, least=6)


@pytest.fixture
def own_cluster(tmp_path):
    """A durable server for this test alone, because it is about to be killed; and its logins."""
    own = Cluster(tmp_path / "cluster")
    own.start()
    passwords = {login: own.password(login) for login in database_roles.LOGINS}
    database_roles.set_up(own.url(), DATABASE, passwords)
    environment = cluster.SETTINGS | database_roles.login_urls(own.url(), DATABASE, passwords)
    run(environment, "manage.py", "migrate", "--no-input", "--verbosity=0")
    yield own, environment
    own.erase()


def test_postgresql_is_killed_at_one_step_in_five(own_cluster):
    own, environment = own_cluster
    found = json.loads(run(environment, "-m", "tests.db.dying", "database", str(EVERY)))
    check(own.url(dbname=DATABASE), environment, found, least=2)
