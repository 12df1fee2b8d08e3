"""Times as the API reads and writes them: ISO 8601 in UTC with `Z`."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_FORM: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
_COMPLAINT: Final = "A time such as 2027-01-31T12:00:00Z is needed."
_SCHEMA: Final = {"type": "string", "format": "date-time"}


def as_text(time: datetime) -> str:
    """Return a time as it is answered, to the microsecond: `2027-01-31T12:00:00.000000Z`."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse(value: Any) -> datetime:
    """Return the time that was sent, in UTC.

    Raises:
        ValueError: not RFC 3339 with a zone, or no time that there is.
    """
    if not isinstance(value, str) or _FORM.fullmatch(value) is None:
        raise ValueError(_COMPLAINT)
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(_COMPLAINT) from None


# As it is sent, and as it is answered.
Time = Annotated[datetime, BeforeValidator(parse), WithJsonSchema(_SCHEMA)]
Moment = Annotated[datetime, PlainSerializer(as_text, return_type=str), WithJsonSchema(_SCHEMA)]
