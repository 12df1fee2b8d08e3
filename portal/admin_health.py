"""The operator's page about the installation's health: worker, queue, mail, webhooks and notary, in words."""

from typing import Final

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from audit import mailing, pulse, searching
from audit.models import Delivery, Mail
from audit.signatures import notary_pulse

MOST_LISTED: Final = 20


@require_safe
def health(request: HttpRequest) -> HttpResponse:
    """Show whether what should leave this installation leaves it, and what failed."""
    context = {
        **admin.site.each_context(request),
        "title": "Health",
        "pulse": pulse.read(),
        "notary": notary_pulse.read(),
        "undelivered": pulse.undelivered(),
        "search_behind": searching.lag(),
        "failed_tasks": pulse.failed_tasks(),
        "mail_is_on": mailing.is_on(),
        "given_up": Mail.objects.filter(state=Mail.State.GIVEN_UP).order_by("-created_at")[:MOST_LISTED],
        "failing": Mail.objects.filter(state=Mail.State.WAITING, attempts__gt=0).order_by("-due_at")[
            :MOST_LISTED
        ],
        "failed_deliveries": Delivery.objects.filter(state="failed").order_by("-finished_at")[:MOST_LISTED],
    }
    return render(request, "admin/health/health.html", context)
