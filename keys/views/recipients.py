"""Recipient keys, under Settings: to whom the secrets of keys that rotate by themselves are sealed."""

from typing import Final

from django.contrib import messages
from django.http import HttpResponse
from django.views.decorators.http import require_http_methods, require_safe

from keys import access, services
from keys.errors import Conflict, KeysError
from keys.forms.recipients import RecipientForm
from keys.pages import recipients as recipients_page
from keys.views import common
from orgs.answers import see_other
from orgs.requests import MemberRequest
from orgs.step_up import step_up_required

COMMANDS: Final = """\
(umask 077 && openssl genpkey -algorithm X25519 -out recipient.key)
openssl pkey -in recipient.key -pubout
openssl pkey -in recipient.key -pubout -outform DER | tail -c 32 | openssl dgst -sha256"""
WITH_SDK: Final = "keystead recipient new --out recipient.key"
OPENING: Final = "keystead open --private-key recipient.key --rotation rot_… --write-env .env"


@require_safe
def recipients(request: MemberRequest) -> HttpResponse:
    """Show the organization's recipients, and how to make one."""
    found = access.recipients(request.member)
    context = {
        "current": recipients_page.rows(found),
        "removed": found.filter(removed_at__isnull=False),
        "commands": COMMANDS,
        "with_sdk": WITH_SDK,
        "opening": OPENING,
        "place": "orgs",
    }
    return common.answer(request, "keys/recipients.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@step_up_required
def recipient_register(request: MemberRequest) -> HttpResponse:
    """Register a public key."""
    access.recipients(request.member)
    form = RecipientForm(request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        try:
            services.register_recipient(**form.cleaned_data, actor=request.member)
        except Conflict as error:
            form.add_error(error.field or None, error.detail)
        except KeysError as error:
            common.attach(form, error)
        else:
            messages.success(request, "Registered. New secrets are sealed to it from now on.")
            return see_other("keys:recipients")
    return common.answer(request, "keys/recipient_register.html", {"form": form, "place": "orgs"})


@require_http_methods(["GET", "HEAD", "POST"])
@step_up_required
def recipient_confirm(request: MemberRequest, recipient_id: str) -> HttpResponse:
    """Ask, then vouch for a recipient that nobody does any more."""
    found = access.recipient(request.member, recipient_id)
    if request.method == "POST":
        if services.confirm_recipient(found, actor=request.member):
            messages.success(request, f"Kept. Secrets may be sealed to {found.name} again.")
        return see_other("keys:recipients")
    (row,) = recipients_page.rows(access.recipients(request.member).filter(pk=found.pk))
    if not row.lapsed:
        return see_other("keys:recipients")
    return common.answer(request, "keys/recipient_confirm.html", {"row": row, "place": "orgs"})


@require_http_methods(["GET", "HEAD", "POST"])
@step_up_required
def recipient_remove(request: MemberRequest, recipient_id: str) -> HttpResponse:
    """Ask, then remove a recipient."""
    found = access.recipient(request.member, recipient_id)
    if request.method == "POST":
        services.remove_recipient(found, actor=request.member)
        messages.success(request, f"Nothing more is sealed to {found.name}.")
        return see_other("keys:recipients")
    rest = access.recipients(request.member).current().exclude(pk=found.pk)
    context = {
        "recipient": found,
        "next": rest.vouched().first(),
        "place": "orgs",
    }
    return common.answer(request, "keys/recipient_remove.html", context)
