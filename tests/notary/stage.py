"""A database of its own with ledgers, a folder, and notaries that run as processes on the two."""

import base64
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from django.db import connections

from audit import entry as entry_rules
from audit import note
from audit.notary import starting, state
from audit.notary.running import Notary
from audit.tree import Point
from orgs import ids
from portal import dsn
from tests import cluster, notaries

HOST = "ledger.example"
TABLES = ("audit_sealed", "audit_entry", "audit_head", "audit_checkpoint")
SECONDS = 60
ALWAYS = """
    DO $$ DECLARE kept record; BEGIN
        FOR kept IN SELECT tgrelid::regclass AS relation, tgname FROM pg_trigger
            WHERE tgrelid = ANY (ARRAY[{}]::regclass[]) AND NOT tgisinternal
        LOOP EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', kept.relation, kept.tgname); END LOOP;
    END $$
""".format(", ".join(f"'{table}'" for table in TABLES))


@dataclass
class Stage:
    """One database and one folder. What it appends goes through the app's login and the ledger's functions."""

    name: str
    folder: Path
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.environment = cluster.new_clone(self.name)
        notaries.new(self.folder)

    @contextlib.contextmanager
    def superuser(self, *, autocommit: bool = True) -> Iterator[psycopg.Connection]:
        """Connect as one whom nothing stops."""
        url = dsn.replaced(cluster.cluster().url(), dbname=self.name)
        with psycopg.connect(url, autocommit=autocommit) as connection:
            yield connection

    @contextlib.contextmanager
    def without_triggers(self) -> Iterator[psycopg.Connection]:
        """Connect as a superuser who has disabled the triggers, until the block ends."""
        with self.superuser(autocommit=False) as connection:
            for table in TABLES:
                connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL".encode())
            yield connection
            for table in TABLES:
                connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER ALL".encode())
            connection.execute(ALWAYS.encode())

    def new(self, size: int) -> str:
        """Return the id of an organization whose ledger holds `size` entries."""
        organization_id = ids.new("org")
        self.append(organization_id, size)
        return organization_id

    def append(self, organization_id: str, count: int = 1, *, word: str = "") -> None:
        """Append entries, each with a sealed note; the first of all opens the ledger."""
        with psycopg.connect(dsn.replaced(self.environment["DATABASE_URL"])) as connection:
            connection.execute("SELECT set_config('app.organization', %s, true)", [organization_id])
            origin = entry_rules.origin(HOST, organization_id)
            [(log, index, prev, at)] = connection.execute(
                "SELECT log, next_index, prev, at FROM ledger_begin(%s, %s)", [organization_id, origin]
            ).fetchall()
            leaves, openings = [], []
            for i in range(index, index + count):
                act, data = "key.created", {"target": f"key_{i}", "word": word}
                if i == 0:
                    act, data = "ledger.opened", {"vkey": note.VerifierKey.of(log, notaries.KEY).format()}
                salt = entry_rules.new_salt()
                leaf = entry_rules.build(
                    log=log,
                    i=i,
                    t=at,
                    prev=prev,
                    act=act,
                    actor="usr_alice",
                    data=data,
                    sealed={"note": entry_rules.commit("note", "Why", salt)},
                )
                leaves.append(leaf)
                openings.append([["note", base64.b64encode(salt).decode(), "Why"]])
                prev = entry_rules.leaf_hash(leaf)
            connection.execute(
                "SELECT ledger_append(%s, %s, %s)", [organization_id, leaves, json.dumps(openings)]
            )

    def roll_back(self, organization_id: str, size: int) -> None:
        """Put a ledger back to an earlier size, with all that was published of it since, as a backup would."""
        with self.without_triggers() as superuser:
            for table in ("audit_sealed", "audit_entry"):
                sql = f"DELETE FROM {table} WHERE organization_id = %s AND index >= %s"
                superuser.execute(sql.encode(), [organization_id, size])
            for table, column in (("audit_checkpoint", "size"), ("audit_node", "(index + 1) << level")):
                sql = f"DELETE FROM {table} WHERE organization_id = %s AND {column} > %s"
                superuser.execute(sql.encode(), [organization_id, size])
            superuser.execute(
                "UPDATE audit_head h SET size = %s, last_at = e.at, last_hash = sha256('\\x00'::bytea || e.leaf) "
                "FROM audit_entry e WHERE h.organization_id = %s AND e.organization_id = h.organization_id "
                "AND e.index = %s",
                [size, organization_id, size - 1],
            )

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Return what a superuser reads."""
        with self.superuser() as superuser:
            return superuser.execute(sql.encode(), parameters).fetchall()

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of `manage.py notary` on this folder."""
        return [sys.executable, "manage.py", "notary", *arguments, f"--folder={self.folder}"]

    def environ(self, level: str = "INFO") -> dict[str, str]:
        """Return the environment of a notary's process."""
        own = {"DJANGO_SETTINGS_MODULE": "portal.settings", "KEYSTEAD_LOG_LEVEL": level}
        return {**os.environ, **self.environment, **own}

    def run_here(self, rounds: int, *, take_over: bool = False, watched: bool = False) -> None:
        """Run a notary from its start for so many rounds in this process, which is quicker."""
        with self.in_this_process():
            Notary(self.folder, take_over=take_over).run_rounds(rounds, watched=watched)

    def adopt_here(self) -> None:
        """Adopt what is published, in this process."""
        with self.in_this_process():
            starting.adopt(self.folder, starting.signers(self.folder))

    @contextlib.contextmanager
    def in_this_process(self) -> Iterator[None]:
        """Let the notary's login of this process work in our database."""
        notary = connections["notary"]
        notary.close()
        earlier = notary.settings_dict["NAME"]
        notary.settings_dict["NAME"] = self.name
        try:
            yield
        finally:
            notary.close()
            notary.settings_dict["NAME"] = earlier

    def kept(self, organization_id: str) -> dict[str, list[tuple[Any, ...]]]:
        """Return a ledger's rows, for `put_back`."""
        tables = ("audit_head", "audit_entry", "audit_sealed")
        return {
            table: self.rows(f"SELECT * FROM {table} WHERE organization_id = %s", organization_id)
            for table in tables
        }

    def put_back(self, kept: dict[str, list[tuple[Any, ...]]]) -> None:
        """Let a ledger hold the rows that `kept` returned, as a standby that caught up."""
        with self.without_triggers() as superuser:
            for table in reversed(kept):
                sql = f"DELETE FROM {table} WHERE organization_id = %s"
                superuser.execute(sql.encode(), [kept["audit_head"][0][0]])
            for table, rows in kept.items():
                for row in rows:
                    places = ", ".join(["%s"] * len(row))
                    superuser.execute(f"INSERT INTO {table} VALUES ({places})".encode(), row)

    def run(
        self, *arguments: str, wrapped: Sequence[str] = (), before: Callable[[], None] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one command to its end; `before` is called in the process that becomes the command."""
        return subprocess.run(
            [*wrapped, *self.command(*arguments)],
            cwd=cluster.ROOT,
            env=self.environ(),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            preexec_fn=before,
        )

    @contextlib.contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Run a notary beside the test, from when it has begun; it is killed where the test leaves it."""
        log = self.folder / "log"
        earlier = len(self.log()) if log.exists() else 0
        with (
            log.open("a") as written,
            subprocess.Popen(
                self.command("run", *arguments),
                cwd=cluster.ROOT,
                env=self.environ(),
                stdout=written,
                stderr=written,
                text=True,
            ) as process,
        ):
            try:
                until(SECONDS, lambda: len(self.log()) > earlier or process.poll() is not None)
                yield process
            finally:
                process.kill()

    def log(self) -> list[dict[str, Any]]:
        """Return what the running notaries logged."""
        return [json.loads(line) for line in (self.folder / "log").read_text().splitlines()]

    def point(self, organization_id: str) -> Point | None:
        """Return what the file says of a ledger."""
        found = state.load(self.folder)
        signed = found.newest.get(organization_id) if found else None
        return signed.point if signed else None

    def signed(self, organization_id: str) -> int:
        """Return how many entries are under a published signature."""
        sql = "SELECT coalesce(max(size), 0) FROM audit_checkpoint WHERE organization_id = %s"
        return int(self.rows(sql, organization_id)[0][0])

    def alarms(self) -> dict[str, dict[str, Any]]:
        """Return the alarms that stand, by organization."""
        [(alarms,)] = self.rows("SELECT alarms FROM audit_notary") or [([],)]
        return {alarm["organization"]: alarm for alarm in alarms}

    def pulse(self) -> dict[str, Any]:
        """Return the notary's row."""
        [(instance, beat_at, swept_at)] = self.rows("SELECT instance, beat_at, swept_at FROM audit_notary")
        return {"instance": instance, "beat_at": beat_at, "swept_at": swept_at}


def until(seconds: float, holds: Callable[[], object]) -> None:
    """Wait until `holds()` is true, at most so long."""
    began = time.monotonic()
    while not (found := holds()):
        assert time.monotonic() - began < seconds, f"not within {seconds} s: {found!r}"
        time.sleep(0.1)


def tampered(leaf: bytes) -> bytes:
    """Return leaf bytes with another word."""
    return re.sub(rb'"word":"[a-z]*"', b'"word":"forged"', leaf)
