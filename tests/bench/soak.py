"""Memory of a verify process that is busy for minutes: it must stay where it was."""

import statistics
import threading
import time
from collections.abc import Iterator

from tests.bench import serving, stage, wrk
from tests.bench.report import Row, bound

KEYS = 100_000
CONNECTIONS = 64
EVERY_SECONDS = 2
# What the first calls fill (pools, caches of statements) is not growth.
WARM = 0.1
MOST_MEGABYTES = 120
WANTED_MEGABYTES = 60
MOST_GROWTH = 1.05


def measure(*, minutes: float = 10) -> Iterator[Row]:
    """Yield the memory at the height, and how it grew from the first part of the time to the last."""
    own = stage.product("bench_soak", KEYS)
    seen: list[dict[int, float]] = []
    with serving.product(own.environment) as server:
        load = own.verification(server.url, own.organizations[0].file, CONNECTIONS, more=stage.FULL)
        idle = max(rss for rss, _ in server.memory().values())
        busy = threading.Event()
        watching = threading.Thread(target=_watch, args=(server, seen, busy))
        watching.start()
        found = load.run(minutes * 60)
        busy.set()
        watching.join()
    yield Row(
        figure=f"soak of {minutes:g} minutes, {CONNECTIONS} connections", measured=str(wrk.Measured([found]))
    )
    yield from _figures(seen, idle)


def _watch(server: serving.Server, seen: list[dict[int, float]], busy: threading.Event) -> None:
    while not busy.is_set():
        seen.append({pid: rss for pid, (rss, _) in server.memory().items()})
        time.sleep(EVERY_SECONDS)


def _figures(seen: list[dict[int, float]], idle: float) -> Iterator[Row]:
    highest = max(max(each.values()) for each in seen)
    row = bound(
        "memory of a verify process at its height",
        highest,
        " MB",
        at_most=MOST_MEGABYTES,
        aim=WANTED_MEGABYTES,
    )
    yield row
    warm = [max(each.values()) for each in seen[int(len(seen) * WARM) :]]
    part = max(1, len(warm) // 5)
    first, last = statistics.median(warm[:part]), statistics.median(warm[-part:])
    yield Row(
        figure="memory at the end ÷ when warm",
        measured=f"{last / first:.3f} ({first:.1f} → {last:.1f} MB; idle {idle:.1f} MB)",
        at_least=f"≤ {MOST_GROWTH}",
        aim="1",
        holds=last / first <= MOST_GROWTH,
    )
