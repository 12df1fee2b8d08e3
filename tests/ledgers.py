"""Ledgers for the tests: real entries of a fresh organization, and a superuser who may touch them."""

import contextlib
from collections.abc import Iterator

import psycopg

from audit import ledger, tenancy
from audit.actors import Actor
from orgs import ids
from portal import dsn
from tests import cluster

ALICE = Actor(
    id="usr_alice",
    name="Alice Larsen",
    email="alice@northline.example",
    ip="203.0.113.9",
    user_agent="Mozilla/5.0 (X11; Linux x86_64)",
    request_id="req_alice",
)


def append(organization_id: str, count: int = 1, *, actor: Actor = ALICE, first: int = 0) -> None:
    """Append `count` entries about keys in one transaction; the first of all is preceded by `ledger.opened`."""
    with tenancy.within(organization_id), ledger.recording(organization_id, actor) as entry:
        for number in range(first, first + count):
            entry(
                "key.created",
                target=f"key_{number}",
                data={"name": f"ingest {number}", "after": {"scopes": ["incidents:read"]}},
            )


def new(size: int = 1) -> str:
    """Return the id of an organization whose ledger holds `size` entries, `ledger.opened` among them."""
    organization_id = ids.new("org")
    if size > 1:
        append(organization_id, size - 1)
    return organization_id


@contextlib.contextmanager
def superuser(*, autocommit: bool = True) -> Iterator[psycopg.Connection]:
    """Connect to this process's database as one whom nothing stops."""
    url = dsn.replaced(cluster.cluster().url(), dbname=cluster.database())
    with psycopg.connect(url, autocommit=autocommit) as connection:
        yield connection


@contextlib.contextmanager
def without_triggers(*, autocommit: bool = False) -> Iterator[psycopg.Connection]:
    """Connect as a superuser who has disabled the ledger's triggers and its foreign key, until the block ends."""
    tables = ("audit_sealed", "audit_entry", "audit_head")
    with superuser(autocommit=autocommit) as connection:
        for table in tables:
            connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL".encode())
        yield connection
        for table in tables:
            connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER ALL".encode())
        connection.execute(ALWAYS)


ALWAYS = b"""
    DO $$ DECLARE kept record; BEGIN
        FOR kept IN SELECT tgrelid::regclass AS relation, tgname FROM pg_trigger
            WHERE tgrelid IN ('audit_entry'::regclass, 'audit_sealed'::regclass, 'audit_head'::regclass)
                AND NOT tgisinternal
        LOOP EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', kept.relation, kept.tgname); END LOOP;
    END $$
"""
