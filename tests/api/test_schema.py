"""The OpenAPI document agrees with what is answered: schemathesis asks, on the WSGI application itself."""

import pytest
import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS

from audit.webhooks import guard
from keys.api.urls import document
from tests.api import calls

# A cursor or a name of a valid form may still be refused for what it means; and each call carries a valid key,
# because those without one are `test_auth`'s.
LEFT_OUT = {"positive_data_acceptance", "missing_required_header", "ignored_auth"}
EXAMPLES = 8
# A stream is the ASGI server's: tests/stream. Forward-auth tells a proxy's own fault by 502: test_authorize.
ELSEWHERE = ["stream_revocations", "authorize", "authorize_by_post"]
schema = schemathesis.openapi.from_dict(document()).exclude(operation_id=ELSEWHERE)
schema.app = WSGIHandler()


@pytest.fixture(scope="module")
def secret(cast, django_db_blocker):
    with django_db_blocker.unblock():
        return calls.key(cast.acme, cast.alice, (*calls.MANAGING, "webhooks:write", "audit:read")).secret


@pytest.fixture(scope="module", autouse=True)
def _names():
    """Every name leads to a public address: a webhook's is looked up as it is made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guard, "resolver", lambda _host, _port: ["93.184.215.14"])
        yield


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_answers_are_as_documented(case, secret):
    headers = {**(case.headers or {}), "Authorization": f"Bearer {secret}", "Host": calls.HOST}
    case.headers = headers
    response = case.call(base_url=f"http://{calls.HOST}")
    excluded = [CHECKS.get_one(name) for name in LEFT_OUT]
    case.validate_response(response, excluded_checks=excluded)
    assert response.status_code < 500
