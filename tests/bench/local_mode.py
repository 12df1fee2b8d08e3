"""The SDK's local mode: kept verdicts a second in one thread, and how soon a revocation reaches a connected client."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg

from tests import cluster
from tests.bench import serving, stage
from tests.bench.report import Row, bound
from tests.bench.stage import Stage

SDK = Path(__file__).resolve().parent.parent.parent / "sdk" / "src"
ROUNDS = 7
ROUND_CALLS = 100_000
REVOCATIONS = 100
AT_LEAST, AIM = 200_000, 600_000
PROMISED_SECONDS, AIM_MS = 1.0, 20
PATIENCE_SECONDS = 10
REVOKE = (
    "UPDATE keys_apikey SET revoked_at = now(), ended_at = now(), revocation_reason = 'other' WHERE id = %s"
)


def measure() -> Iterator[Row]:
    """Yield the figures, from a process that holds nothing but the SDK: garbage of others would slow it down."""
    own = stage.product("bench_local", REVOCATIONS + 1)
    with serving.product(own.environment) as server:
        found = _client(server.url, own)
    yield _rated("SDK local mode, kept verdicts a second in one thread", found["prepared"])
    yield _rated("… through `client.api_keys.validate(secret, scopes=…)`", found["validate"])
    took = sorted(found["took"])
    within = sum(seconds <= PROMISED_SECONDS for seconds in took)
    yield Row(
        figure="a revocation reaches a connected SDK within 1 s",
        measured=f"{within} of {len(took)}",
        at_least=f"{REVOCATIONS} of {REVOCATIONS}",
        holds=within == len(took) == REVOCATIONS,
    )
    yield bound("… p99", _percentile(took, 0.99) * 1000, " ms", at_most=1000, aim=AIM_MS)
    yield Row(figure="… p50", measured=f"{statistics.median(took) * 1000:.1f} ms")


def _rated(figure: str, rate: float) -> Row:
    return Row(
        figure=figure,
        measured=f"{rate:,.0f}",
        at_least=f"{AT_LEAST:,}",
        aim=f"{AIM:,}",
        holds=rate >= AT_LEAST,
    )


def _percentile(values: Sequence[float], part: float) -> float:
    return values[min(len(values) - 1, int(part * len(values)))]


def _client(url: str, own: Stage) -> dict[str, Any]:
    """Run `main` in a process of its own; return what it found."""
    secrets = own.organizations[0].secrets
    given = [url, own.verifier, cluster.cluster().url(dbname=own.name), own.organizations[0].id]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.local_mode", *given],
        input="\n".join(secrets),
        env={**os.environ, "PYTHONPATH": f"{SDK}:{SDK.parent.parent}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main(url: str, verifier: str, database: str, organization_id: str) -> None:
    """Measure as a service does that has the SDK: the presented secrets come line by line."""
    from keystead import Keystead
    from keystead.local import LocalOptions
    from keystead.question import ask

    first, *others = sys.stdin.read().split()
    with Keystead(url, verifier, local=LocalOptions(max_staleness=30)) as client:
        local = client._judge._local
        assert local is not None
        validate, scopes = client.api_keys.validate, ("incidents:read",)
        _keep(client, first, scopes)
        question = ask(first, scopes=scopes, endpoint="GET /v1/incidents")
        prepared = _rate(lambda: local.validate(question))
        through = _rate(lambda: validate(first, scopes=scopes, endpoint="GET /v1/incidents"))
        with psycopg.connect(database, autocommit=True) as connection:
            ids = _ids(connection, organization_id)[1:]
            took = [_revoked(client, connection, *pair) for pair in zip(ids, others, strict=True)]
    print(json.dumps({"prepared": prepared, "validate": through, "took": took}))


def _keep(client: Any, secret: str, scopes: Sequence[str] | None = None) -> None:
    from keystead.question import ask

    kept = client._judge._local._kept
    deadline = time.monotonic() + PATIENCE_SECONDS
    while kept.find(ask(secret, scopes=scopes)) is None:
        if time.monotonic() > deadline:
            raise RuntimeError("the verdict was never kept")
        client.api_keys.validate(secret, scopes=scopes)


def _rate(act: Callable[[], object]) -> float:
    """Return the median of the rounds: calls a second, each of them answered by what is kept."""
    rates = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(ROUND_CALLS):
            act()
        rates.append(ROUND_CALLS / (time.perf_counter() - start))
    return statistics.median(rates)


def _ids(connection: psycopg.Connection, organization_id: str) -> list[str]:
    """Return the keys in the order of their secrets."""
    rows = connection.execute(
        "SELECT id FROM keys_apikey WHERE organization_id = %s ORDER BY name", [organization_id]
    )
    return [key_id for (key_id,) in rows.fetchall()]


def _revoked(client: Any, connection: psycopg.Connection, key_id: str, secret: str) -> float:
    """Return the seconds from the commit of a revocation, by psql, to the first refusal."""
    from keystead.errors import Refused

    _keep(client, secret)
    connection.execute(REVOKE, [key_id])
    start = time.perf_counter()
    while time.perf_counter() - start < PATIENCE_SECONDS:
        try:
            client.api_keys.validate(secret)
        except Refused:
            return time.perf_counter() - start
        time.sleep(0.0005)
    return PATIENCE_SECONDS


if __name__ == "__main__":
    main(*sys.argv[1:])
