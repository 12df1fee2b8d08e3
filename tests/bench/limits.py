"""A limit of 100 under 1,000 calls at once, over 4 processes: exactly 100 pass, every time."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

from tests.bench import serving, stage
from tests.bench.report import Row

RUNS = 50
LIMIT = 100
CALLS = 1_000
PROCESSES = 4
# So wide that no run meets its edge.
WINDOW_SECONDS = 86_400 * 31
# A full queue says so at once; that call has not passed and spends nothing.
SHED = "503"
ANSWERS = frozenset({"VALID", "RATE_LIMITED", SHED})
LIMITED = "UPDATE keys_apikey SET rate_limit_requests = %s, rate_limit_window_seconds = %s"
SPENT = (
    "SELECT count(*) FILTER (WHERE current = %s AND previous = 0) FROM keys_keyuse WHERE organization_id = %s"
)
PATIENCE_SECONDS = 60


def measure() -> Iterator[Row]:
    """Yield in how many of the runs, each with a key of its own, exactly the limit passed."""
    own = stage.product("bench_limits", RUNS)
    made = own.organizations[0]
    own.query(f"{LIMITED} WHERE organization_id = %s", LIMIT, WINDOW_SECONDS, made.id)
    with serving.product(own.environment, workers=PROCESSES) as server:
        runs = [asyncio.run(_all_at_once(server.url, own.verifier, secret)) for secret in made.secrets]
    exact = sum(run["VALID"] == LIMIT and not set(run) - ANSWERS for run in runs)
    shed = sum(run[SHED] for run in runs)
    worst = max(runs, key=lambda run: abs(run["VALID"] - LIMIT))
    yield Row(
        figure=f"limit {LIMIT}, {CALLS:,} parallel calls over {PROCESSES} processes: exactly {LIMIT} pass",
        measured=f"{exact} of {RUNS} runs (furthest off {worst['VALID']}; {shed} calls shed)",
        at_least=f"{RUNS} of {RUNS}",
        holds=exact == RUNS,
    )
    spent = own.query(SPENT, LIMIT, made.id)[0][0]
    yield Row(
        figure=f"… and the counter of the key stands at {LIMIT}",
        measured=f"{spent} of {RUNS}",
        at_least=f"{RUNS} of {RUNS}",
        holds=spent == RUNS,
    )


async def _all_at_once(url: str, verifier: str, secret: str) -> Counter[str]:
    """Connect for every call, then send them all; return what came back, by code or status."""
    place = urlsplit(url)
    body = json.dumps({"secret": secret})
    request = (
        f"POST /v1/keys/verify HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: Bearer {verifier}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
    ).encode()
    opened = await asyncio.gather(
        *(asyncio.open_connection(place.hostname, place.port) for _ in range(CALLS))
    )
    for _, writer in opened:
        writer.write(request)
    async with asyncio.timeout(PATIENCE_SECONDS):
        answers = await asyncio.gather(*(reader.read() for reader, _ in opened))
    for _, writer in opened:
        writer.close()
    return Counter(map(_code, answers))


def _code(answer: bytes) -> str:
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1].decode() if head else "no answer"
    return str(json.loads(body)["code"]) if status == "200" else status
