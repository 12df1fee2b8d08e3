"""Break-glass: 10,000 keys in one act, with an entry for each; and what another organization notices of it."""

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from django.db import connections

from audit import tenancy
from keys import breakglass, callers, clock, services
from keys.callers import Caller
from keys.listing import Filters
from orgs.models import Organization
from tests import builders, cluster, key_builders
from tests.bench.loading import organization_with
from tests.bench.report import Row, bound

ROUNDS = 3
KEYS = 10_000
# Of what is loaded, one key in ten is revoked already.
LOADED = 11_111
LIMIT, AIM = 5.0, 3.0
# Between two verifications: the act's own process asks for them, and has one core to think with.
PAUSE_SECONDS = 0.01
STALL_MS, STALL_AIM_MS = 1_000, 100
LEFT = "SELECT count(*) FROM keys_apikey WHERE organization_id = %s AND revoked_at IS NULL"
ENTRIES = """
SELECT count(*) FROM audit_entry WHERE organization_id = %s AND act IN ('key.revoked', 'breakglass.executed')
"""


def measure() -> Iterator[Row]:
    """Yield the seconds of a dry run and of the act, and how long a neighbour's verification took at most."""
    key_builders.catalogue()
    owner = builders.person("Neighbour")
    neighbour = builders.organization("Neighbour", owner=owner)
    secret = key_builders.create(neighbour, owner).secret
    asked, acted, slowest, whole = [], [], [], True
    for _ in range(ROUNDS):
        made, person = organization_with(LOADED)
        caller = callers.of_member(builders.member(person, made), has_stepped_up=True)
        filters = Filters(organization_id=made.id, project=builders.root(made).id)
        asked.append(_seconds(lambda: _dry_run(filters, caller)))  # noqa: B023
        with _verifying(secret, neighbour) as waits:
            acted.append(_seconds(lambda: _act(filters, caller)))  # noqa: B023
        slowest.append(max(waits, default=0.0) * 1000)
        whole = whole and _counts(made) == (0, KEYS + 1)
    yield Row(figure=f"dry run of {KEYS:,} keys, with each one's calls", measured=f"{max(asked):.2f} s")
    median = statistics.median(acted)
    yield bound(f"{KEYS:,} keys revoked in one act, median", median, " s", at_most=LIMIT, aim=AIM)
    yield Row(figure="… the longest", measured=f"{max(acted):.2f} s")
    yield Row(figure="… none left, one entry each and one for the act", measured=str(whole), holds=whole)
    figure = "… slowest verification of another organization meanwhile"
    yield bound(figure, max(slowest), " ms", at_most=STALL_MS, aim=STALL_AIM_MS)


def _seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def _dry_run(filters: Filters, caller: Caller) -> None:
    with tenancy.within(filters.organization_id):
        now = clock.now()
        found = breakglass.matching(filters, caller, now)
        breakglass.reach(found, now)
        breakglass.carried(found, filters.organization_id, now, most=1_000)


def _act(filters: Filters, caller: Caller) -> None:
    with tenancy.within(filters.organization_id):
        services.break_glass(filters, actor=caller, reason="bench")


def _counts(where: Organization) -> tuple[int, int]:
    url = cluster.cluster().url(dbname=cluster.database())
    with psycopg.connect(url, autocommit=True) as superuser:
        left, entries = (superuser.execute(sql.encode(), [where.id]).fetchone() for sql in (LEFT, ENTRIES))
    return left[0], entries[0]


@contextmanager
def _verifying(secret: str, where: Organization) -> Iterator[list[float]]:
    """Verify a neighbour's key again and again until the block ends; the list gets the seconds of each."""
    waits: list[float] = []
    is_over = threading.Event()

    def run() -> None:
        while not is_over.wait(PAUSE_SECONDS):
            waits.append(_seconds(lambda: key_builders.verify(secret, where)))
        connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    yield waits
    is_over.set()
    thread.join()
