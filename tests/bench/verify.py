"""Verification beside a bare SELECT and beside djangorestframework-api-key: the same cores, server, load and minute."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from tests import cluster
from tests.bench import serving, stage, wrk
from tests.bench.report import Row, bound, ratio

KEYS = 100_000
ROUNDS = 7
SECONDS = 4.0
FEW, MANY = 16, 64
GENEROUS = {
    "rate_limit": {"requests": 1_000_000_000, "window_seconds": 60},
    "monthly_quota": 1_000_000_000_000,
}
MOST_MEMORY, WANTED_MEMORY = 120, 60
# What is alone on its row of the ledger of figures, by the name of its load.
LINES = {
    f"verify, {FEW}": f"verify, {FEW} connections",
    f"verify, {MANY}": f"verify, {MANY} connections",
    f"hot, {FEW}": f"verify, one hot key, {FEW} connections",
    f"hot, {MANY}": f"verify, one hot key, {MANY} connections",
    f"full, {MANY}": f"verify with scopes, address and endpoint, {MANY} connections",
    f"limited, {FEW}": f"verify under a plan's limit and quota, {FEW} connections",
    f"limited, {MANY}": f"verify under a plan's limit and quota, {MANY} connections",
    f"bare, {FEW}": f"bare one-SELECT app, {FEW} connections",
    f"bare, {MANY}": f"bare one-SELECT app, {MANY} connections",
    f"drf, {FEW}": f"djangorestframework-api-key, {FEW} connections",
    f"drf, {MANY}": f"djangorestframework-api-key, {MANY} connections",
}


def measure(*, rounds: int = ROUNDS, seconds: float = SECONDS) -> Iterator[Row]:
    """Yield what each side does and the ratios between them."""
    own = stage.product("bench_verify", KEYS, KEYS)
    spread, limited = own.organizations
    own.query("UPDATE orgs_organization SET overrides = %s WHERE id = %s", json.dumps(GENEROUS), limited.id)
    environment, keys = stage.rest_framework(KEYS)
    with ExitStack() as stack:
        product = stack.enter_context(serving.product(own.environment))
        bare = stack.enter_context(serving.bare(own.environment))
        other = stack.enter_context(serving.rest_framework(environment))
        loads = {}
        for connections in (FEW, MANY):
            loads |= {
                f"verify, {connections}": own.verification(product.url, spread.file, connections),
                f"bare, {connections}": own.verification(bare.url, spread.file, connections),
                f"hot, {connections}": own.verification(product.url, spread.hot(), connections),
                f"limited, {connections}": own.verification(product.url, limited.file, connections),
                f"drf, {connections}": _rest_framework(other.url, keys, connections),
            }
        loads[f"full, {MANY}"] = own.verification(product.url, spread.file, MANY, more=stage.FULL)
        before = product.memory()
        found = wrk.interleaved(loads, rounds=rounds, seconds=seconds)
        after = product.memory()
    yield from _figures(found)
    yield from _honest(own, found)
    yield from _memory(before, after)


def _rest_framework(url: str, keys: Sequence[str], connections: int) -> wrk.Load:
    path = wrk.write_request(
        cluster.folder() / "rest_framework.http",
        url,
        method="GET",
        target="/",
        headers={"Authorization": f"Api-Key {wrk.PLACE}"},
        body="",
        line=0,
    )
    return wrk.Load(url, path, keys, connections)


def _figures(found: dict[str, wrk.Measured]) -> Iterator[Row]:
    for name, figure in LINES.items():
        yield Row(figure=figure, measured=str(found[name]), holds=False if found[name].errors else None)
    for connections, at_least, aim in ((FEW, 0.8, 1.0), (MANY, 1.3, 1.8)):
        over = found[f"verify, {connections}"].over(found[f"bare, {connections}"])
        yield ratio(f"verify ÷ bare, {connections} connections", over, at_least=at_least, aim=aim)
    over = found[f"verify, {FEW}"].over(found[f"drf, {FEW}"])
    yield ratio(f"verify ÷ djangorestframework-api-key, {FEW} connections", over, at_least=5, aim=6)
    for connections in (FEW, MANY):
        over = found[f"hot, {connections}"].over(found[f"verify, {connections}"])
        yield ratio(f"one hot key ÷ spread keys, {connections} connections", over, at_least=0.8, aim=1.0)


def _honest(own: stage.Stage, found: dict[str, wrk.Measured]) -> Iterator[Row]:
    """Each answered call is recorded, and each was valid: speed that leaves its evidence."""
    recorded = own.recorded()
    answered = sum(
        each.calls
        for name, measured in found.items()
        if name.startswith(("verify", "hot", "full", "limited"))
        for each in measured.rounds
    )
    valid = recorded.pop("VALID", 0)
    yield Row(
        figure="calls answered / recorded as valid (warm-up included) / else",
        measured=f"{answered:,} / {valid:,} / {sum(recorded.values()):,}",
        holds=valid >= answered and not recorded,
    )


def _memory(before: dict[int, tuple[float, float]], after: dict[int, tuple[float, float]]) -> Iterator[Row]:
    for number, pid in enumerate(after, start=1):
        rss, pss = after[pid]
        idle = f" (resident {rss:.0f} MB; idle {before[pid][1]:.0f} MB)" if pid in before else ""
        row = bound(
            f"memory of verify process {number} after load",
            pss,
            " MB",
            at_most=MOST_MEMORY,
            aim=WANTED_MEMORY,
        )
        yield Row(
            figure=row.figure,
            measured=row.measured + idle,
            at_least=row.at_least,
            aim=row.aim,
            holds=row.holds and rss <= MOST_MEMORY,
        )
