"""Verification among a thousand keys and among a million: two databases of one server, loaded in turn."""

from collections.abc import Iterator
from contextlib import ExitStack

from tests.bench import serving, stage, wrk
from tests.bench.report import Row, ratio

SMALL, LARGE = 1_000, 1_000_000
CONNECTIONS = (16, 64)


def measure(*, rounds: int = 7, seconds: float = 4) -> Iterator[Row]:
    """Yield both speeds and their ratio."""
    stages = {count: stage.product(f"bench_{count}", count) for count in (SMALL, LARGE)}
    loads = {}
    with ExitStack() as stack:
        for count, own in stages.items():
            server = stack.enter_context(serving.product(own.environment))
            for connections in CONNECTIONS:
                load = own.verification(server.url, own.organizations[0].file, connections)
                loads[f"{count}, {connections}"] = load
        found = wrk.interleaved(_in_turn(loads), rounds=rounds, seconds=seconds)
    for name, measured in found.items():
        count, connections = name.split(", ")
        yield Row(
            figure=f"verify among {int(count):,} keys, {connections} connections",
            measured=str(measured),
            holds=False if measured.errors else None,
        )
    for connections in CONNECTIONS:
        over = found[f"{LARGE}, {connections}"].over(found[f"{SMALL}, {connections}"])
        figure = f"verify at {LARGE:,} keys ÷ at {SMALL:,}, {connections} connections"
        yield ratio(figure, over, at_least=0.9, aim=1.0)


def _in_turn(loads: dict[str, wrk.Load]) -> dict[str, wrk.Load]:
    """Order the loads so that the two that are compared follow each other."""
    return dict(sorted(loads.items(), key=lambda item: (item[1].connections, item[0])))
