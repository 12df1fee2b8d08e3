"""Whether a webhook is still to be told of something, for whoever must keep until then what it carries."""

from django.db import connection

from audit.acts import Act
from audit.webhooks import patterns

WAITING = """
    WITH told AS (SELECT epoch, index FROM audit_entry WHERE organization_id = %(organization)s AND target = %(target)s
        AND act = %(act)s ORDER BY epoch DESC, index DESC LIMIT 1)
    SELECT EXISTS (SELECT FROM told JOIN audit_endpoint e ON e.organization_id = %(organization)s
        WHERE e.disabled_at IS NULL AND e.acts && %(patterns)s::varchar[] AND (
            (e.cursor_epoch, e.cursor_index) < (told.epoch, told.index)
            OR EXISTS (SELECT FROM audit_delivery d WHERE d.endpoint_id = e.id AND d.epoch = told.epoch
                AND d.index = told.index AND d.state = 'pending')))
"""


def is_waiting(organization_id: str, act: Act, target: str) -> bool:
    """Tell whether an endpoint that is not disabled has yet to be told of the newest entry of an act on a target.

    One that heard of it, or was given up on, waits for nothing; a queue that the worker has not come to does.
    """
    asked: dict[str, str | list[str]] = {
        "organization": organization_id,
        "act": act,
        "target": target,
        "patterns": list(patterns.covering(act)),
    }
    with connection.cursor() as cursor:
        cursor.execute(WAITING, asked)
        row: tuple[bool] = cursor.fetchone()
    return row[0]
