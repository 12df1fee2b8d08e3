"""How an operation runs: inside one organization's rows and its ledger's one transaction, answered before it ends."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus

from django.http import HttpResponse
from pydantic import BaseModel

from audit import ledger, tenancy
from keys.api import idempotency
from keys.api.auth import ApiRequest, caller
from keys.api.problems import invalid, not_found
from keys.callers import Caller
from orgs.models import Organization

type Act = Callable[[Caller], tuple[HTTPStatus, BaseModel | None]]


def answer(status: HTTPStatus, body: BaseModel | None) -> HttpResponse:
    """Return an answer as JSON; without a body there is no content type either."""
    if body is None:
        response = HttpResponse(status=status)
        del response["Content-Type"]
        return response
    return _json(status, body.model_dump_json(exclude_unset=True))


def read(
    request: ApiRequest, act: Callable[[Caller], BaseModel], organization: str | None = None
) -> HttpResponse:
    """Answer with what `act` finds within the caller's organization, or the one that the operator's key names."""
    with _within(request, target(request, organization)) as who:
        return answer(HTTPStatus.OK, act(who))


def begin[Result](request: ApiRequest, act: Callable[[Caller], Result]) -> Result:
    """Return what `act` returns within the caller's organization, once all of it is committed."""
    with _within(request, target(request)) as who:
        return act(who)


def change(request: ApiRequest, act: Act) -> HttpResponse:
    """Answer with what `act` did, all of it committed before the answer leaves; what it raises undoes it."""
    with _within(request, target(request)) as who:
        return answer(*act(who))


def change_once(request: ApiRequest, act: Act, organization: str | None = None) -> HttpResponse:
    """Like `change`, and with an `Idempotency-Key` the first answer again."""
    organization_id = target(request, organization)
    with _within(request, organization_id) as who:
        asked = idempotency.asked(request, who.id, organization_id)
        if asked is None:
            return answer(*act(who))
        earlier = asked.earlier()
        if earlier is None:
            status, body = act(who)
            asked.keep(status, body)
            return answer(status, body)
        return _again(earlier)


def target(request: ApiRequest, organization: str | None = None) -> str:
    """Return the organization to act in; raises a `Problem` with 422 or, for an unknown one, 404."""
    presented = request.auth
    if organization is None:
        return presented.key.organization_id
    if not presented.is_operator:
        raise invalid("organization", "Only keys of the operator's organization name one.")
    with tenancy.everywhere(tenancy.Reason.OPERATOR_KEY):
        if not Organization.objects.filter(pk=organization).exists():
            raise not_found()
    return organization


@contextmanager
def _within(request: ApiRequest, organization_id: str) -> Iterator[Caller]:
    who = caller(request)
    with tenancy.within(organization_id), ledger.recording(organization_id, who, is_last=True):
        yield who


def _again(earlier: idempotency.Kept) -> HttpResponse:
    if not earlier.answer:
        return answer(HTTPStatus(earlier.status), None)
    return _json(HTTPStatus(earlier.status), json.dumps(earlier.answer))


def _json(status: HTTPStatus, text: str) -> HttpResponse:
    return HttpResponse(text, status=status, content_type="application/json")
