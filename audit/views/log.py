"""The security log: an organization's entries, and each of them alone, with its proof."""

from collections.abc import Mapping
from shlex import quote
from typing import Any, Final

from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from audit import access, describe, paging, redaction
from audit.forms import LogFilter
from audit.paging import Page
from audit.ports import Reader, ReaderRequest
from audit.proofs import proof, standing
from audit.proofs.standing import StandingState
from audit.signatures import sealing, verifier_keys
from audit.signatures.sealing import Seal
from audit.support import history

PAGE_SIZE: Final = 50


@require_safe
def log(request: ReaderRequest) -> HttpResponse:
    """Show one page of the entries that the filters leave, newest first; to htmx only what they change."""
    if any(redaction.holds_secret(text) for _, texts in request.GET.lists() for text in texts):
        return HttpResponseRedirect(reverse("audit:log"))
    member = request.member
    access.entries(member)
    if request.headers.get("HX-Target") == "seal":
        return _answered(request, "components/seal.html", {"seal": _seal(member)})
    form = LogFilter(request.GET, actors=access.actors(member))
    wanted = form.wanted()
    page = (
        access.search(member, wanted, request.GET, PAGE_SIZE)
        if wanted
        else Page(entries=[], newer="", older="")
    )
    is_part = request.headers.get("HX-Target") == "rows"
    context = _listed(member, form, page) | {
        "form": form,
        "menus": form.menus(with_actors=member.reads_whole_log),
        "reads_whole_log": member.reads_whole_log,
        "seal": _seal(member),
        "now": timezone.now(),
        "is_part": is_part,
    }
    return _answered(request, "audit/log.html#rows" if is_part else "audit/log.html", context)


@require_safe
def entry(request: ReaderRequest, place: tuple[int, int]) -> HttpResponse:
    """Show one entry: what it says, what it seals, the bytes that are hashed, and the proof that they are signed."""
    detail = access.entry(request.member, place)
    data = detail.parsed.data if detail.parsed else {}
    keys = [key for key in dict.fromkeys([detail.line.target, detail.line.actor]) if key]
    context = {
        "may_erase": request.member.may_erase,
        "detail": detail,
        "line": detail.line,
        "changes": describe.changes(data),
        "facts": describe.facts(data),
        "leaf_hash": detail.entry.leaf_hash().hex(),
        "prev": detail.parsed.prev.hex() if detail.parsed else "",
        "leaf": bytes(detail.entry.leaf).decode("utf-8", "backslashreplace"),
        "standing": standing.standing(detail.entry),
        "name": _file_name(place),
        "place": paging.written(place),
        "commands": _commands(request.member.organization_id, place),
        "revocable": access.revocable(request.member, keys),
    }
    return render(request, "audit/entry.html", context)


@require_safe
def entry_proof(request: ReaderRequest, place: tuple[int, int]) -> HttpResponse:
    """Download the proof that an entry is under the newest signature; to its page, which says why, where none is."""
    found = standing.standing(access.entry(request.member, place).entry)
    if found.state is not StandingState.PROVEN:
        return redirect("audit:entry", place)
    return _download(found.file.encode(), _file_name(place) + proof.SUFFIX, "text/plain; charset=utf-8")


@require_safe
def entry_leaf(request: ReaderRequest, place: tuple[int, int]) -> HttpResponse:
    """Download the bytes of an entry that are hashed, and not one more."""
    found = access.entry(request.member, place).entry
    return _download(bytes(found.leaf), _file_name(place) + ".json", "application/octet-stream")


@require_safe
def support_access(request: ReaderRequest) -> HttpResponse:
    """Show which support visits there were, a page of them, and what each was shown."""
    now = timezone.now()
    found, older = history.visits(request.member, request.GET, now)
    context = {
        "place": "orgs",
        "visits": found,
        "running": [visit for visit in found if visit.is_running],
        "older": older and f"{reverse('audit:support_access')}?before={older}",
    }
    return render(request, "audit/support_access.html", context)


def _seal(member: Reader) -> Seal | None:
    return sealing.seal(member.organization_id) if member.reads_whole_log else None


def _answered(request: ReaderRequest, template: str, context: Mapping[str, Any]) -> HttpResponse:
    response = render(request, template, context)
    patch_vary_headers(response, ["HX-Request", "HX-Target"])
    return response


def _listed(member: Reader, form: LogFilter, page: Page) -> dict[str, Any]:
    """Return what the rows show; where there are none, which filters hide what."""
    lines = access.lines(member, page.entries)
    hiding = [] if lines or page.reached or page.newer else list(form.hiding())
    return {
        "lines": lines,
        "revocable": access.revocable(member, [line.target for line in lines]),
        "newer": page.newer and form.url(after=page.newer),
        "older": page.older and form.url(before=page.older),
        "reached": page.reached,
        "hiding": [
            (label, value, address)
            for label, value, address, wanted in hiding
            if access.is_there(member, wanted)
        ],
    }


def _commands(organization_id: str, place: tuple[int, int]) -> dict[str, str]:
    """Return the commands that check the two files which the page offers, of one entry."""
    vkeys = verifier_keys.published(organization_id, place[0])
    name = _file_name(place)
    trusted, plain = (" ".join(f"{option} {quote(vkey)}" for vkey in vkeys) for option in ("--vkey", "-vkey"))
    return {
        "hash": f"{{ printf '\\0'; cat {name}.json; }} | sha256sum",
        "sdk": f"keystead ledger proof {name}{proof.SUFFIX} --entry {name}.json {trusted}",
        "go": f"./check_ledger {plain} -entry {name}.json {name}{proof.SUFFIX}",
    }


def _file_name(place: tuple[int, int]) -> str:
    return f"entry-{paging.written(place)}"


def _download(octets: bytes, name: str, content_type: str) -> HttpResponse:
    return HttpResponse(
        octets, content_type=content_type, headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )
