"""What very many keys carried, for whoever stops them all at once: 10,000 keys in one statement."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from keys.models import Grain
from keys.usage.questions import floor
from keys.usage.rows import many_rows

DAY: Final = timedelta(days=1)
# The hour that the range cuts by its minutes, whole hours by key, and what is not rolled up yet: exact to the minute.
_CALLS: Final = """
SELECT r.key_id, sum(r.calls)::bigint FROM (
    SELECT key_id, calls FROM keys_usage
     WHERE organization_id = %(organization)s AND grain = 'm' AND at >= %(since)s AND at < %(hour)s
    UNION ALL
    SELECT key_id, calls FROM keys_usagekey
     WHERE organization_id = %(organization)s AND grain = 'h' AND at >= %(hour)s
    UNION ALL
    SELECT key_id, calls FROM keys_call
     WHERE xid >= (SELECT rolled_until FROM keys_usagemark) AND at >= %(since)s AND organization_id = %(organization)s
) r WHERE r.key_id = ANY(%(keys)s) GROUP BY 1
"""


def calls_of_day(
    organization_id: str, key_ids: Collection[str], now: datetime, *, patience: str = "10s"
) -> dict[str, int]:
    """Return how often each key was called in the last 24 hours, whatever became of the calls; none: not in it.

    Args:
        patience: how long it may take, as PostgreSQL writes it.

    Raises:
        TakesTooLong: it did not end by then. The transaction that it ran in goes on.
    """
    since = floor(now - DAY, Grain.MINUTE)
    parameters = {
        "organization": organization_id,
        "keys": list(key_ids),
        "since": since,
        "hour": floor(since - timedelta(microseconds=1), Grain.HOUR) + timedelta(hours=1),
    }
    return dict(many_rows(_CALLS, parameters, patience=patience))
