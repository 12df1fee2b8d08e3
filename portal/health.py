"""Liveness and readiness, for whoever restarts or balances this process."""

from django.contrib.auth.decorators import login_not_required
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from audit import pulse, searching
from audit.signatures import notary_pulse
from portal import errors


@login_not_required
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:  # noqa: ARG001
    """Say that the process answers; asks nothing of the database."""
    return JsonResponse({"status": "ok"})


@login_not_required
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:  # noqa: ARG001
    """Say whether requests can be served: the database answers and its migrations are there.

    A missing worker or notary, what the notary found wrong with a ledger, and how many entries the search has yet to
    keep the words of, are told and change nothing of that: keys are verified and pages are served without them. Who
    balances requests reads the status code; who is to be woken, the words and counts.
    """
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM orgs_organization LIMIT 1")
        found, waiting, notary = pulse.read(), pulse.undelivered(), notary_pulse.read()
        unread = searching.lag()
    except errors.UNAVAILABLE:
        return JsonResponse({"status": "unavailable", "database": "unreachable"}, status=503)
    return JsonResponse(
        {
            "status": "ok",
            "database": "ok",
            "worker": "missing" if found.is_missing else "ok",
            "worker_seen_seconds": found.seen_seconds,
            "notary": notary.status,
            "notary_beat_seconds": notary.beat_seconds,
            "notary_swept_seconds": notary.swept_seconds,
            "notary_alarms": len(notary.alarms),
            "queue": {
                "due": found.jobs_due,
                "oldest_seconds": found.oldest_seconds,
                "failed": found.jobs_failed,
            },
            "search_behind": unread,
            "undelivered": {"webhooks": waiting.webhooks, "mails": waiting.mails},
        }
    )
