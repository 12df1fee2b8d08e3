"""What every list has: `limit`, `cursor`, and nothing else unless it says so."""

import base64
import binascii
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any

from django.db.models import Model, QuerySet
from django.http import HttpRequest
from pydantic import BaseModel, Field

from keys.api.problems import FieldError, Problem, invalid
from keys.listing import DEFAULT_LIMIT, MAX_CURSOR, MAX_LIMIT

Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT)]
Cursor = Annotated[str, Field(max_length=MAX_CURSOR, description="`next_cursor` of the page before.")]


class PageQuery(BaseModel):
    """The query of a plain list."""

    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor | None = None


def check_names(request: HttpRequest, known: Sequence[str] = (), repeatable: Sequence[str] = ()) -> None:
    """Raise a `Problem` with 422 for a parameter that there is not, or that comes twice: else a filter is lost."""
    errors = []
    for name, values in request.GET.lists():
        if name not in known:
            errors.append(FieldError(location="query", message="There is no parameter of this name."))
        elif len(values) > 1 and name not in repeatable:
            errors.append(FieldError(location=name, message="This is given more than once."))
    if errors:
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_value", "The request is not valid.", errors=errors
        )


def by_column[M: Model](rows: QuerySet[M], column: str, query: PageQuery) -> tuple[list[M], str | None]:
    """Return one page of rows in the order of a unique text column, and the cursor of the next.

    Raises a `Problem` with 422 for a cursor that is none.
    """
    found = rows.order_by(column)
    if query.cursor is not None:
        found = found.filter(**{f"{column}__gt": _decoded(query.cursor)})
    page = list(found[: query.limit + 1])
    more, items = len(page) > query.limit, page[: query.limit]
    return items, _encoded(getattr(items[-1], column)) if more else None


def _encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(str(value).encode()).decode().rstrip("=")


def _decoded(cursor: str) -> str:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        text = "\0"
    if "\0" in text:
        raise invalid("cursor", "This is no cursor of this list.")
    return text
