"""`/v1/keys/verify`: may this presented secret do what it asks?"""

from http import HTTPStatus

from django.http import HttpResponse
from ninja import Router

from keys import verification
from keys.api import docs, present, running
from keys.api.answers import UnknownOut, VerdictOut
from keys.api.auth import ApiRequest, Bearer
from keys.api.paging import check_names
from keys.api.requests import ScopeList, ScopeQuery, VerifyRequest
from keys.scopes import Query, all_of, parse_query

router = Router(tags=["Verification"])


@router.post(
    "/keys/verify",
    auth=Bearer("keys:verify"),
    response=VerdictOut | UnknownOut,
    operation_id="verify_key",
    summary="Verify a presented secret",
    openapi_extra=docs.change("keys:verify", 403),
)
def key_verify(request: ApiRequest, body: VerifyRequest) -> HttpResponse:
    """200 for every verdict: 401 and 403 speak of your own key. Runs apart from the pages' transactions."""
    check_names(request)
    verifier = request.auth
    ask = verification.Ask(
        verifier_organization_id=None if verifier.is_operator else verifier.key.organization_id,
        query=_query(body.scopes),
        environment=body.environment,
        project=body.project,
        ip=body.ip,
        cost=body.cost,
    )
    found = verification.verify(body.secret, ask)
    return running.answer(HTTPStatus.OK, present.answer(found, request.request_id))


def _query(scopes: ScopeList | ScopeQuery | None) -> Query | None:
    if scopes is None:
        return None
    return parse_query(scopes) if isinstance(scopes, str) else all_of(scopes)
