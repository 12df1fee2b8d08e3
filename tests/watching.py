"""A watch over every table: which rows changed, and whether the transaction that changed them appended an entry.

Whatever is not on the list below is state, so that a table or a column of tomorrow is watched until somebody says why
it need not be. Row triggers of a superuser note the changes, in the transaction that makes them: what is rolled back
was never there, and it sees past services, row security and definer functions.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import psycopg

from tests import ledgers

INSERT, UPDATE, DELETE = "INSERT", "UPDATE", "DELETE"
ALL: Final = frozenset({INSERT, UPDATE, DELETE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """What of a table is no state, and why: whole operations, and columns whose change alone is none."""

    why: str
    operations: frozenset[str] = frozenset()
    columns: tuple[str, ...] = ()


def _evidence(why: str) -> Quiet:
    return Quiet(why=why, operations=ALL)


QUIET: Final = {
    # What a browser, a worker or Django keeps for itself.
    "orgs_session": _evidence("what one browser holds; its beginning is an entry"),
    "orgs_counter": _evidence("counters of limits on tries"),
    "django_admin_log": _evidence("Django's own diary beside the ledger"),
    "django_content_type": _evidence("names of Django's models"),
    "procrastinate_jobs": _evidence("the worker's queue"),
    "procrastinate_events": _evidence("the worker's queue"),
    "procrastinate_periodic_defers": _evidence("the worker's queue"),
    "procrastinate_workers": _evidence("the worker's queue"),
    "orgs_user": Quiet(why="when somebody last signed in, which is an entry", columns=("last_login",)),
    # Usage: evidence of calls, which is not in the ledger (spec LEDGER, "Writing").
    **{
        f"keys_{name}": _evidence("usage, and what is counted of it")
        for name in (
            "approvalspend",
            "call",
            "keyuse",
            "networkmark",
            "organizationspend",
            "rotationseen",
            "rotationuse",
            "scopeuse",
            "secretuse",
            "unknowncalls",
            "usage",
            "usageendpoint",
            "usagekey",
            "usagemark",
            "usageplace",
            "usagereport",
        )
    },
    "keys_approvaluse": Quiet(
        why="counted by verification, told by an entry of the worker (told_at)",
        operations=frozenset({INSERT}),
    ),
    "keys_keynetwork": Quiet(
        why="learned from calls and forgotten after 400 days; telling of it is an entry (told_at)",
        operations=frozenset({INSERT, DELETE}),
        columns=("last_seen_on", "is_due"),
    ),
    # Worked out of what the ledger tells, and made again at any time.
    "keys_due": _evidence("when the worker looks at a key again"),
    "keys_healthrun": _evidence("when the worker looked at an organization's keys"),
    "keys_keyfinding": _evidence("what is noticed about keys, worked out of keys and usage"),
    "keys_idempotencyrecord": _evidence("answers that are repeated to a caller who asks twice, for a day"),
    "keys_rotation": Quiet(
        why="a suspended organization's silence counts from its end on", columns=("held_at",)
    ),
    # The ledger itself, and what is made of it.
    "audit_entry": _evidence("the entries"),
    "audit_head": _evidence("where each ledger ends"),
    "audit_sealed": Quiet(why="comes with its entry; that it goes is state", operations=frozenset({INSERT})),
    "audit_node": _evidence("the notary's tree"),
    "audit_notary": _evidence("the notary's pulse"),
    "audit_checkpoint": _evidence("the notary's signatures"),
    "audit_searchblock": _evidence("words of entries, for searching"),
    "audit_mail": _evidence("mail about entries"),
    "audit_noticecursor": _evidence("how far entries were made into mail"),
    "audit_attempt": _evidence("what an endpoint answered"),
    "audit_delivery": _evidence("what is sent to endpoints about entries"),
    "audit_endpoint": Quiet(
        why="how far entries were sent to it, and since when it fails",
        columns=("cursor_epoch", "cursor_index", "failing_since", "last_delivered_at"),
    ),
    "audit_endpointsecret": Quiet(
        why="deleted once it signs no more; that it will not was an entry", operations=frozenset({DELETE})
    ),
    "audit_erasure": Quiet(
        why="how far the worker is with an erasure; what it takes goes with an entry",
        columns=("addresses", "epoch", "index", "entries", "fields", "finished_at"),
    ),
    "audit_export": Quiet(
        why="how far the worker is with an export",
        columns=("state", "claim", "attempts", "done", "total", "entries", "size", "epoch", "reason"),
    ),
    "audit_exportpart": _evidence("the bytes of an export: copies of entries"),
}
"""What is no state. `keys_call` stands for its partitions."""

_SCHEMA: Final = """
DROP SCHEMA IF EXISTS watching CASCADE;
CREATE SCHEMA watching;
CREATE TABLE watching.change (
    number bigint GENERATED ALWAYS AS IDENTITY, xid xid8 NOT NULL, relation text NOT NULL, operation text NOT NULL
);
CREATE TABLE watching.appended (xid xid8 PRIMARY KEY);
CREATE FUNCTION watching.note_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF tg_op = 'UPDATE' AND to_jsonb(old) - tg_argv[0]::text[] = to_jsonb(new) - tg_argv[0]::text[] THEN
        RETURN NULL;
    END IF;
    INSERT INTO watching.change (xid, relation, operation)
        VALUES (pg_current_xact_id(), tg_table_name, tg_op);
    RETURN NULL;
END $$;
CREATE FUNCTION watching.note_entry() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO watching.appended VALUES (pg_current_xact_id()) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER watching AFTER INSERT ON public.audit_entry
    FOR EACH STATEMENT EXECUTE FUNCTION watching.note_entry();
"""
_TABLES: Final = """
SELECT relname FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY relname
"""
_CHANGES: Final = """
SELECT number, relation, operation, EXISTS (SELECT FROM watching.appended e WHERE e.xid = c.xid)
FROM watching.change c WHERE number > %s ORDER BY number
"""


@dataclass(frozen=True, slots=True)
class Change:
    """One row that changed; `is_recorded` where its transaction appended an entry."""

    relation: str
    operation: str
    is_recorded: bool


@dataclass(slots=True)
class Changes:
    """What changed since the watch was last asked."""

    seen: list[Change] = field(default_factory=list)

    @property
    def unrecorded(self) -> list[str]:
        """What was changed without an entry, such as `keys_apikey UPDATE`."""
        return sorted({f"{one.relation} {one.operation}" for one in self.seen if not one.is_recorded})

    def __bool__(self) -> bool:
        return bool(self.seen)


@dataclass(slots=True)
class Watch:
    """What watches one database, over a superuser's connection."""

    connection: psycopg.Connection
    last: int = 0

    def changes(self) -> Changes:
        """Return what was committed since this was last asked."""
        rows = self.connection.execute(_CHANGES.encode(), [self.last]).fetchall()
        self.last = rows[-1][0] if rows else self.last
        return Changes([Change(*row[1:]) for row in rows])

    def forget(self) -> None:
        """Take no notice of what was changed so far: a test made its objects."""
        self.changes()


def tables(connection: psycopg.Connection) -> list[str]:
    """Return every table of the product; a partitioned one once."""
    return [name for (name,) in connection.execute(_TABLES.encode())]


@contextlib.contextmanager
def installed() -> Iterator[Watch]:
    """Watch this process's database until the block ends."""
    with ledgers.superuser() as connection:
        connection.execute(_SCHEMA.encode())
        try:
            for table in tables(connection):
                _watch(connection, table)
            yield Watch(connection)
        finally:
            connection.execute(b"DROP SCHEMA watching CASCADE")


def _watch(connection: psycopg.Connection, table: str) -> None:
    quiet = QUIET.get(table, Quiet(why=""))
    operations = sorted(ALL - quiet.operations)
    if operations:
        columns = ",".join(quiet.columns)
        connection.execute(
            f"CREATE TRIGGER watching AFTER {' OR '.join(operations)} ON public.{table}"
            f" FOR EACH ROW EXECUTE FUNCTION watching.note_change('{{{columns}}}')".encode()
        )
