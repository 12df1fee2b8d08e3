"""The ledger: appends through its service beside the least that a chain costs, and how fast a ledger is recomputed."""

import io
import statistics
import time
from collections.abc import Callable, Iterator

import psycopg
from django.core.management import call_command
from django.db import connection, transaction

from audit import ledger, tenancy
from audit.actors import Actor
from tests import builders, cluster
from tests.bench.report import Row

ROUNDS = 7
APPENDS = 300
BATCHES, BATCH = 50, 1_000
ACTOR = Actor(id="usr_bench", name="Bench", email="bench@example.com", ip="192.0.2.1", user_agent="bench")
FACTS = {"name": "noc-readonly", "scopes": ["incidents:read", "alerts:read"], "environment": "production"}
BARE = """
CREATE TABLE bench_head (id int PRIMARY KEY);
CREATE TABLE bench_entry (head int, leaf bytea);
INSERT INTO bench_head VALUES (1);
GRANT SELECT, UPDATE ON bench_head TO keystead_app;
GRANT INSERT ON bench_entry TO keystead_app;
"""
LEAF = b"x" * 512


def measure() -> Iterator[Row]:
    """Yield appends per second of both, one at a time and each committed, and entries verified per second."""
    made = builders.organization("Ledger")
    with psycopg.connect(cluster.cluster().url(dbname=cluster.database()), autocommit=True) as superuser:
        superuser.execute(BARE)
    rates: dict[str, list[float]] = {"service": [], "bare": []}
    for _ in range(ROUNDS):
        rates["service"].append(_rate(lambda: _append(made.id)))
        rates["bare"].append(_rate(_insert))
    service, bare = (statistics.median(rates[name]) for name in ("service", "bare"))
    over = statistics.median(a / b for a, b in zip(rates["service"], rates["bare"], strict=True))
    yield Row(figure="ledger appends through the service, each committed", measured=f"{service:,.0f} /s")
    yield Row(figure="bare INSERT under a row lock, each committed", measured=f"{bare:,.0f} /s")
    yield Row(figure="ledger appends ÷ bare INSERT", measured=f"{over:.2f}")
    yield from _verification(made.id)


def _rate(act: Callable[[], None]) -> float:
    start = time.perf_counter()
    for _ in range(APPENDS):
        act()
    return APPENDS / (time.perf_counter() - start)


def _append(organization_id: str, entries: int = 1) -> None:
    with tenancy.within(organization_id), ledger.recording(organization_id, ACTOR, is_last=True) as entry:
        for _ in range(entries):
            entry("key.created", target="key_bench", data=FACTS, sealed={"note": "for the night shift"})


def _insert() -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT id FROM bench_head WHERE id = 1 FOR UPDATE")
        cursor.execute("INSERT INTO bench_entry VALUES (1, %s)", [LEAF])


def _verification(organization_id: str) -> Iterator[Row]:
    start = time.perf_counter()
    for _ in range(BATCHES):
        _append(organization_id, BATCH)
    yield Row(
        figure=f"ledger appends through the service, {BATCH:,} a transaction",
        measured=f"{BATCHES * BATCH / (time.perf_counter() - start):,.0f} /s",
    )
    with tenancy.within(organization_id):
        entries = len(builders.entries(organization_id))
    with psycopg.connect(cluster.cluster().url(dbname=cluster.database()), autocommit=True) as superuser:
        superuser.execute("VACUUM ANALYZE")
    said = io.StringIO()
    start = time.perf_counter()
    call_command("ledger", "verify", organization=organization_id, stdout=said)
    seconds = time.perf_counter() - start
    yield Row(
        figure=f"ledger verify, {entries:,} entries",
        measured=f"{entries / seconds:,.0f} entries/s",
        holds=organization_id in said.getvalue(),
    )
