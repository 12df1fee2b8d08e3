"""PostgreSQL dies with SIGKILL while keys are made: 503 until it is back, and nothing is half done."""

import json

import pytest

from tests import outage
from tests.e2e.serving import serve

WRITERS = 4


@pytest.fixture
def own_cluster(tmp_path):
    with outage.cluster(tmp_path / "cluster") as own:
        yield own


def test_killed_while_keys_are_made(own_cluster, tmp_path):
    environment = outage.environment(own_cluster)
    seed = json.loads(outage.run(environment, "-m", "tests.e2e.seed"))
    with serve(environment, tmp_path) as server:
        writers = outage.Writers(server.url, seed["secret"])
        with writers.writing(WRITERS):
            writers.wait(201, 20)
            outage.kill(own_cluster)
            writers.wait(503, WRITERS)
            own_cluster.start()
            writers.wait(201, 20)
    assert set(writers.statuses) == {201, 503}
    keys, secrets, entries = outage.rows(own_cluster)
    assert keys == secrets == entries
    assert set(writers.made) <= keys
    outage.run(environment, "manage.py", "ledger", "verify")
