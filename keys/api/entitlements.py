"""`/v1/entitlements/check`: has a key's organization bought a feature, and may the key use anything at all?"""

from http import HTTPStatus

from django.http import HttpResponse
from ninja import Router
from pydantic import ConfigDict, Field, model_validator

from audit import tenancy
from keys import clock, rotation, verification
from keys.api import docs, running
from keys.api.answers import EntitlementOut, PlanOut
from keys.api.auth import ApiRequest, Bearer
from keys.api.paging import check_names
from keys.api.problems import not_found
from keys.api.requests import Entitlement, Id, Strict, Text
from keys.callers import Presented
from keys.models import ApiKey
from keys.models.key import Status
from orgs.terms import is_entitled

router = Router(tags=["Verification"])


class EntitlementRequest(Strict):
    """A key, by its id or by a presented secret, and a feature."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"key_id": "key_aaaaaaaaaaaaaaaaaaaa", "entitlement": "bulk_export"}]}
    )

    key_id: Id | None = None
    secret: Text | None = None
    entitlement: Entitlement = Field(description="The name of the feature.")

    @model_validator(mode="after")
    def _one(self) -> "EntitlementRequest":
        if (self.key_id is None) == (self.secret is None):
            raise ValueError("Either `key_id` or `secret` is needed.")
        return self


@router.post(
    "/entitlements/check",
    auth=Bearer("keys:verify", cost=0),
    response=EntitlementOut,
    operation_id="check_entitlement",
    summary="Check an entitlement",
    openapi_extra=docs.change("keys:verify", 403, 404),
)
def entitlement_check(request: ApiRequest, body: EntitlementRequest) -> HttpResponse:
    """`allowed` only while the key is valid in itself; 404 for a key that you may not see, or that is none."""
    check_names(request)
    verifier = request.auth
    found = (
        _of_secret(verifier, body.secret, body.entitlement)
        if body.secret is not None
        else _of_key(verifier, body.key_id or "", body.entitlement)
    )
    return running.answer(HTTPStatus.OK, found)


def _of_secret(verifier: Presented, text: str, name: str) -> EntitlementOut:
    """Answer for the key that a secret opens; one that is expired or retired opens nothing any more."""
    call = verification.Call(
        verifier=None,
        organization_id=None if verifier.is_operator else verifier.key.organization_id,
        presented=verification.credential(text),
        ask=verification.Ask(cost=0, is_recorded=False),
    )
    judged = verification.ask(call).presented
    if judged is None or judged.known is None:
        raise not_found()
    row = judged.known.row
    is_accepted = rotation.is_accepted(
        rotation.Secret(
            version=row.version,
            created_at=row.now,
            expires_at=row.expires_at,
            accepted_until=row.accepted_until,
        ),
        row.newest_version,
        row.now,
    )
    return _of_key(verifier, row.key_id, name, is_accepted=is_accepted)


def _of_key(verifier: Presented, key_id: str, name: str, *, is_accepted: bool = True) -> EntitlementOut:
    seen = (
        tenancy.everywhere(tenancy.Reason.OPERATOR_KEY)
        if verifier.is_operator
        else tenancy.within(verifier.key.organization_id)
    )
    with seen:
        key = ApiKey.objects.select_related("organization__plan").filter(pk=key_id).first()
        if key is None:
            raise not_found()
        organization, plan = key.organization, key.organization.plan
        is_active = key.status(clock.now()) is Status.ACTIVE and organization.suspended_at is None
        value = organization.terms.entitlements.get(name)
    return EntitlementOut(
        allowed=is_accepted and is_active and is_entitled(value),
        value=value,
        plan=PlanOut(slug=plan.slug, name=plan.name),
    )
