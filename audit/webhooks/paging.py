"""Pages of an endpoint's deliveries, the newest first: by time and id, so that none is skipped or shown twice."""

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime

from django.db.models import Q

from audit.models import Delivery
from audit.webhooks.access import Deliveries


def page(found: Deliveries, before: str, size: int) -> tuple[Sequence[Delivery], str]:
    """Return one page and the cursor of the next, "" at the end; raises `ValueError` for a cursor that is none."""
    rows = found.order_by("-created_at", "-id")
    if before:
        at, delivery_id = _read(before)
        rows = rows.filter(Q(created_at__lt=at) | Q(created_at=at, id__lt=delivery_id))
    shown = list(rows[: size + 1])
    return shown[:size], _written(shown[size - 1]) if len(shown) > size else ""


def _written(last: Delivery) -> str:
    text = f"{last.created_at.isoformat()}|{last.id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read(cursor: str) -> tuple[datetime, str]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        text = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except binascii.Error:
        raise ValueError("no cursor") from None
    time, _, delivery_id = text.partition("|")
    at = datetime.fromisoformat(time)
    if at.tzinfo is None or "\0" in delivery_id:
        raise ValueError("no cursor")
    return at, delivery_id
