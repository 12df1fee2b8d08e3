"""Uses of an approval over several processes, and with one of them killed: never one more than were granted."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

import pytest

from tests import governance_builders as gov
from tests import key_builders
from tests.api.calls import rows
from tests.db import gate_serving
from tests.db.gate_serving import VERIFY, asking, send

CLIENTS = 50
ROUNDS = 5


@pytest.fixture
def verifier(cast):
    return key_builders.create(cast.acme, cast.alice, scopes=["keys:verify"]).secret


@pytest.fixture(scope="module")
def server(cast, tmp_path_factory):
    with gate_serving.serve(tmp_path_factory.mktemp("governed"), workers=3) as found:
        yield found


def use(server, verifier, made, approval):
    """Use an approval; return the code, or "" where no answer came."""
    body = {"secret": made.secret, "scopes": ["incidents:write"], "trace": {"approval": approval.id}}
    try:
        reply = send(server.port, "POST", VERIFY, json.dumps(body).encode(), **asking(verifier))
    except (OSError, HTTPException):
        return ""
    return reply.json.get("code", "")


def written(approval):
    """Return the counter, and the numbers of the uses that are written."""
    spent = rows("SELECT spent FROM keys_approvalspend WHERE approval_id = %s", approval.id)[0][0]
    numbers = rows("SELECT number FROM keys_approvaluse WHERE approval_id = %s ORDER BY 1", approval.id)
    return spent, [number for (number,) in numbers]


@pytest.mark.parametrize("uses", [1, 7])
def test_fifty_at_once_spend_what_there_is(cast, server, verifier, uses):
    made = gov.bound_key(cast.acme, cast.bob)
    for _ in range(ROUNDS):
        approval = gov.granted(cast.acme, made.key, cast.alice, uses=uses)
        with ThreadPoolExecutor(CLIENTS) as clients:
            codes = list(clients.map(lambda _, a=approval: use(server, verifier, made, a), range(CLIENTS)))
        assert codes.count("VALID") == uses
        assert codes.count("APPROVAL_REQUIRED") == CLIENTS - uses
        assert written(approval) == (uses, list(range(1, uses + 1)))


def test_a_process_that_is_killed_spends_no_use_twice(cast, server, verifier):
    made = gov.bound_key(cast.acme, cast.bob)
    approval = gov.granted(cast.acme, made.key, cast.alice, uses=100)
    with ThreadPoolExecutor(16) as clients:
        asked = [clients.submit(use, server, verifier, made, approval) for _ in range(60)]
        asked[10].result()
        os.kill(server.processes()[0], signal.SIGKILL)
        codes = [each.result() for each in asked]
        codes += list(clients.map(lambda _: use(server, verifier, made, approval), range(120)))
    spent, numbers = written(approval)
    assert (spent, numbers) == (100, list(range(1, 101)))
    # What was spent for a call whose answer was lost stays spent: at most the calls that were in flight.
    assert 100 - 16 <= codes.count("VALID") <= 100
