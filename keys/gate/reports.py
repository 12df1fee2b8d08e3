"""`POST /v1/usage`: uses of kept verdicts, where the gate stands in front of the pages or alone."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Final

import msgspec
from django.db import DatabaseError, connections

from keys import reported
from keys.api.body import read_json
from keys.api.requests import UsageReportRequest
from keys.callers import Presented
from keys.errors import Unavailable
from keys.gate import credentials, standing
from keys.gate.messages import JSON, Incoming, Outgoing, refuse_parameters, validated
from keys.verification import DATABASE, Call, Judged, Own, credential
from keys.verification.engine import Engine
from keys.verification.own import presented

PATH: Final = "/v1/usage"
METHOD: Final = "POST"
SCOPE: Final = "keys:verify"
# Reports can wait; two at a time leave the database to verification.
_threads: Final = ThreadPoolExecutor(2, thread_name_prefix="keystead-reports")


async def report(request: Incoming, engine: Engine) -> Outgoing:
    """202 and how many items were recorded: none of a batch that was sent before.

    Raises:
        Problem: the request can't be read, or the verifier's key does not do.
        Unavailable: nothing was recorded.
    """
    token = credentials.bearer(request.header("authorization"))
    credentials.refuse_key_in_query(request.query)
    own = Own(ip=request.client_ip, scope=SCOPE)
    judged = (await engine.ask(Call(verifier=credential(token), own=own))).verifier
    verifier = _admitted(judged)
    asked = _asked(request)
    loop = asyncio.get_running_loop()
    accepted = await loop.run_in_executor(_threads, _record, asked, verifier, request.request_id)
    body = msgspec.json.encode({"accepted": accepted})
    return Outgoing(HTTPStatus.ACCEPTED, body, {"Content-Type": JSON, **standing.expiry_headers(judged)})


def _admitted(judged: Judged | None) -> Presented:
    found = None if judged is None else presented(judged)
    if found is None:
        credentials.refuse_token()
    credentials.require(found.scopes, SCOPE)
    return found


def _asked(request: Incoming) -> UsageReportRequest:
    refuse_parameters(request)
    return validated(UsageReportRequest, read_json(request.header("content-type"), request.body))


def _record(asked: UsageReportRequest, verifier: Presented, request_id: str) -> int:
    connections[DATABASE].close_if_unusable_or_obsolete()
    try:
        return reported.record(asked.batch, asked.uses(), verifier=verifier, request_id=request_id)
    except DatabaseError:
        connections[DATABASE].close()
        raise Unavailable from None
