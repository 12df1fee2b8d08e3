"""The Security log at many entries: server time of its pages, and how many queries each takes.

The entries are made by SQL, in the shape that the ledger's functions give them; their chain is not, which no page
reads. So are the words that the worker would keep of them, by the functions that it calls.
"""

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import psycopg
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests import builders, cluster
from tests.bench.report import Row, bound

ENTRIES = 1_000_000
SMALL = 10_000
ROUNDS = 5
LIMIT_MS = 500
BLOCK = 64
CHUNK = 250_000
LANES = 2
YEARS = 2
RARE = 7  # entries with the word that almost none has

# Every entry has `ingest`; one half has `even` and the other `odd`; 200 actors, of whom one did half of it.
FILL = """
INSERT INTO audit_entry
SELECT %(organization)s, 1, i, convert_to(format(
    '{"act":"%%s","actor":"%%s","data":{"after":{"scopes":["incidents:read","alerts:read"]},"before":{"scopes":["incidents:read"]},'
    '"name":"prod-ingest-eu-%%s","reason":"%%s%%s","request_id":"%%s","target":"%%s"},"i":%%s,"log":"%%s","prev":"%%s","t":"%%s","v":1}',
    act, actor, i %% 5000, CASE i %% 2 WHEN 0 THEN 'even' ELSE 'odd' END,
    CASE WHEN i %% %(step)s = %(step)s - 1 THEN ' needle' ELSE '' END, request, target, i, %(log)s::text,
    encode(sha256(i::text::bytea), 'base64'), to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')), 'UTF8'),
    act, actor, target, request, at
FROM (SELECT i,
        (ARRAY['key.created', 'key.changed', 'key.revoked', 'rotation.started', 'session.started'])[1 + i * 7 %% 5]
            AS act,
        'usr_' || CASE i %% 2 WHEN 0 THEN 'bench' ELSE translate(left(md5('a' || i %% 199), 20), '0189', 'ghij') END
            AS actor,
        'key_' || translate(left(md5('k' || i %% 100000), 20), '0189', 'ghij') AS target,
        'req_' || left(md5('r' || i), 24) AS request,
        date_trunc('milliseconds', now()) - interval '1 hour'
            - (%(last)s - i) * (interval '1 day' * 365 * %(years)s / %(last)s) AS at
    FROM generate_series(%(from)s::bigint, %(to)s::bigint) i) made
"""
SEAL = """
INSERT INTO audit_sealed
SELECT %(organization)s, 1, i, f.field, sha256(i::text::bytea), f.value
FROM generate_series(%(from)s::bigint, %(to)s::bigint) i,
    LATERAL (VALUES ('name', 'Person ' || i %% 1000), ('ip', '203.0.113.' || i %% 256)) f (field, value)
WHERE i %% 5 = 0
"""
WORDS = """
INSERT INTO audit_searchblock
SELECT %(organization)s, 1, n, audit_block(%(organization)s, 1::smallint, n)
FROM generate_series(%(from)s::bigint, %(to)s::bigint) n
"""
HEAD = """
UPDATE audit_head SET size = %(last)s + 1, last_at = greatest(last_at, e.at),
    last_hash = sha256('\\x00'::bytea || e.leaf)
FROM audit_entry e WHERE (e.organization_id, e.epoch, e.index) = (%(organization)s, 1, %(last)s)
    AND audit_head.organization_id = %(organization)s
"""


@dataclass(frozen=True)
class Side:
    """One organization, and its auditor's browser."""

    organization_id: str
    client: Client
    entries: int

    def load(self, query: Mapping[str, str]) -> tuple[float, int]:
        """Return the server time of one page in milliseconds, and the queries it took."""
        with CaptureQueriesContext(connection) as captured:
            start = time.perf_counter()
            response = self.client.get(f"/log?{urlencode(query)}")
            taken = (time.perf_counter() - start) * 1000
        assert response.status_code == 200, response.status_code
        return taken, len(captured)


def measure(*, entries: int = ENTRIES, rounds: int = ROUNDS) -> Iterator[Row]:
    """Yield for each page its median at few entries and at many, then the worst of them and the most queries."""
    yield from compare(_side(SMALL), _side(entries), rounds)


def compare(small: Side, large: Side, rounds: int = ROUNDS) -> Iterator[Row]:
    """Yield what `measure` does, of two ledgers that are filled."""
    worst, changing = 0.0, []
    for name in _pages(large):
        found = [[side.load(_pages(side)[name]) for _ in range(rounds)] for side in (small, large)]
        few, many = (statistics.median(taken for taken, _ in loads) for loads in found)
        counts = [sorted({count for _, count in loads[1:]}) for loads in found]
        worst = max(worst, many)
        # One more where a look gave up: it says how far it came.
        changing += [name] if abs(max(counts[0]) - max(counts[1])) > 1 else []
        yield Row(
            figure=f"log, {name}: {small.entries:,} / {large.entries:,} entries",
            measured=f"{few:.0f} / {many:.0f} ms · {counts[0]} / {counts[1]} queries",
        )
    yield bound(f"log at {large.entries:,} entries, the worst page", worst, " ms", at_most=LIMIT_MS)
    yield bound("log: pages that take another number of queries at that size", len(changing), "", at_most=0)


def _pages(side: Side) -> dict[str, dict[str, str]]:
    last = side.entries - 1
    return {
        "first page": {},
        "deep page": {"before": str(last // 10)},
        "deep page, newer": {"after": str(last // 10)},
        "actor": {"who": "usr_bench"},
        "act of none": {"act": "breakglass.*"},
        "request id": {"request": _md5("req_", "r", last // 3, 24)},
        "target": {"target": _id("key_", "k", last // 3 % 100_000)},
        "rare word": {"q": "needle"},
        "common word": {"q": "ingest"},
        "word of one entry": {"q": _md5("", "r", last // 4, 24)},
        "word that goes on": {"q": "need"},
        "two common words never together": {"q": "even odd "},
        "the same, going on": {"q": "even odd ", "before": str(last // 2)},
        "phrase that is nowhere": {"q": '"ingest prod"'},
        "actor, act and range": {"who": "usr_bench", "act": "key.revoked"} | _range(),
        "actor who did none of an act": {"who": "usr_bench", "act": "breakglass.executed"},
        "word, actor, act and range": {"q": "needle", "who": "usr_bench", "act": "key.*"} | _range(),
        "words that nobody wrote": {"q": "nowhere"},
    }


def _range() -> dict[str, str]:
    end = datetime.now(UTC) - timedelta(days=365)
    return {"since": f"{end - timedelta(days=90):%Y-%m-%d}", "until": f"{end:%Y-%m-%d}"}


def _md5(prefix: str, word: str, number: int, length: int) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s || left(md5(%s || %s), %s)", [prefix, word, str(number), length])
        row: tuple[str] = cursor.fetchone()
    return row[0]


def _id(prefix: str, word: str, number: int) -> str:
    found = _md5("", word, number, 20)
    return prefix + found.translate(str.maketrans("0189", "ghij"))


def _side(entries: int) -> Side:
    owner = builders.person("Owner")
    made = builders.organization(f"Log {entries}", owner=owner)
    fill(made.id, entries)
    return Side(made.id, builders.signed_in(owner), entries)


def fill(organization_id: str, entries: int) -> None:
    """Fill a ledger up to so many entries, with the words that the worker keeps of them."""
    first = len(builders.entries(organization_id))
    last = entries - 1
    with _superuser() as superuser:
        (log,) = superuser.execute(
            "SELECT origin FROM audit_head WHERE organization_id = %s", [organization_id]
        ).fetchone() or ("",)
    values = {
        "organization": organization_id,
        "log": log,
        "last": last,
        "step": max(entries // RARE, 2),
        "years": YEARS,
    }
    with without_indexes("audit_entry", "audit_searchblock"):
        _in_lanes(lambda run, low, high: run(FILL, values | {"from": low, "to": high}), first, last)
    _in_lanes(lambda run, low, high: run(SEAL, values | {"from": low, "to": high}), first, last)
    with _superuser() as superuser:
        superuser.execute(HEAD, values)
        superuser.execute("VACUUM ANALYZE audit_entry, audit_sealed")
    with without_indexes("audit_searchblock"):
        blocks = entries // BLOCK
        _in_lanes(
            lambda run, low, high: run(WORDS, values | {"from": low, "to": high}),
            0,
            blocks - 1,
            chunk=CHUNK // BLOCK,
        )
    with _superuser() as superuser:
        superuser.execute("VACUUM ANALYZE audit_searchblock")


class without_indexes:  # noqa: N801 - reads as the context that it is
    """Take the indexes of tables away that are no constraints, and make them again at the end, which is quicker."""

    def __init__(self, *tables: str) -> None:
        self.tables = list(tables)
        self.definitions: list[tuple[str, str]] = []

    def __enter__(self) -> None:
        with _superuser() as superuser:
            self.definitions = superuser.execute(
                "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
                " WHERE indrelid = ANY (%s::regclass[]) AND NOT indisprimary",
                [self.tables],
            ).fetchall()
            for name, _ in self.definitions:
                superuser.execute(f"DROP INDEX {name}".encode())

    def __exit__(self, *raised: object) -> None:
        with _superuser() as superuser:
            superuser.execute("SET maintenance_work_mem = '1GB'")
            for _, definition in self.definitions:
                superuser.execute(definition.encode())


def _in_lanes(act: Callable[..., Any], first: int, last: int, *, chunk: int = CHUNK) -> None:
    """Do a range in pieces, two at once, each in a transaction of its own."""
    pieces = iter(range(first, last + 1, chunk))
    failed: list[BaseException] = []

    def work() -> None:
        with _superuser() as superuser:
            superuser.execute("SET synchronous_commit = off")
            for low in pieces:
                try:
                    act(superuser.execute, low, min(last, low + chunk - 1))
                except psycopg.Error as error:
                    failed.append(error)
                    return

    threads = [threading.Thread(target=work) for _ in range(LANES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def _superuser() -> psycopg.Connection:
    return psycopg.connect(cluster.cluster().url(dbname=cluster.database()), autocommit=True)
