"""The only door to an organization's webhooks: for who may change them, else 403; 404 for strangers and unknown ids."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from django.core.exceptions import PermissionDenied
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import Http404

from audit import paging
from audit.errors import EntryInvalid
from audit.models import Attempt, Delivery, DeliveryState, Endpoint
from audit.ports import Reader
from audit.webhooks import claims

type Deliveries = QuerySet[Delivery]
_ID: Final = re.compile(r"[^\x00]*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryDetail:
    """What a delivery's page shows. `body` is made from the entry as at each attempt, without what ports add."""

    delivery: Delivery
    attempts: list[Attempt]
    body: str


def page_of(found: Deliveries, before: str, size: int) -> tuple[Sequence[Delivery], str]:
    """Return one page of deliveries, newest first, and the cursor of the next; raises `ValueError` for a bad one."""
    return paging.by_time(found, "created_at", before or None, size, ids=_ID)


def endpoints(member: Reader) -> list[Endpoint]:
    """Return the organization's endpoints, the oldest first; raises `PermissionDenied`."""
    require(member)
    return list(of_organization(member.organization_id))


def of_organization(organization_id: str) -> QuerySet[Endpoint]:
    """Return an organization's endpoints, the oldest first."""
    return Endpoint.objects.filter(organization_id=organization_id).order_by("created_at", "id")


def endpoint(member: Reader, endpoint_id: str) -> Endpoint:
    """Return one endpoint; raises `Http404`, `PermissionDenied`."""
    found = of_organization(member.organization_id).filter(pk=endpoint_id).first()
    if found is None:
        raise Http404
    require(member)
    return found


def deliveries(found: Endpoint, *, failed_only: bool = False) -> Deliveries:
    """Return an endpoint's deliveries, each with how its last attempt ended (`last_outcome`, `last_status`)."""
    last = Attempt.objects.filter(delivery=OuterRef("pk")).order_by("-id")
    rows = Delivery.objects.filter(endpoint=found).annotate(
        last_outcome=Subquery(last.values("outcome")[:1]), last_status=Subquery(last.values("status")[:1])
    )
    return rows.filter(state=DeliveryState.FAILED) if failed_only else rows


def delivery(found: Endpoint, delivery_id: str) -> Delivery:
    """Return one delivery of an endpoint; raises `Http404`."""
    row = deliveries(found).filter(pk=delivery_id).first()
    if row is None:
        raise Http404
    return row


def detail(found: Delivery) -> DeliveryDetail:
    """Return a delivery with its attempts, the newest first, and its body."""
    try:
        body = claims.body_of(found, {}).decode()
    except EntryInvalid:
        body = ""
    return DeliveryDetail(
        delivery=found, attempts=list(Attempt.objects.filter(delivery=found).order_by("-id")), body=body
    )


def require(member: Reader) -> None:
    """Raise `PermissionDenied` unless the person may change webhooks."""
    if not member.may_change_webhooks:
        raise PermissionDenied
