"""How to check the ledger without us: what is signed, by which key, and the commands."""

from pathlib import Path
from typing import Final

from django.conf import settings
from django.http import FileResponse, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from audit import access, ledger
from audit.note import VerifierKey
from audit.ports import ReaderRequest
from audit.proofs.checking import Place, commands
from audit.signatures import sealing, verifier_keys

PROGRAM: Final = Path(settings.BASE_DIR) / "docs" / "check_ledger.go"


@require_safe
def checking(request: ReaderRequest) -> HttpResponse:
    """Show how to check this organization's ledger with programs that are not ours."""
    member = request.member
    found = access.checkable(member)
    vkeys = verifier_keys.published(member.organization_id, found.epoch) or [
        ledger.verifier_key(found.origin)
    ]
    place = Place(
        base_url=settings.KEYSTEAD_BASE_URL,
        vkeys=vkeys,
        index=found.index,
        field=found.field,
    )
    context = {
        "found": found,
        "keys": [(VerifierKey.parse(vkey).id.hex(), vkey) for vkey in vkeys],
        "commands": commands(place),
        "reads_whole_log": member.reads_whole_log,
        "seal": sealing.seal(member.organization_id) if member.reads_whole_log else None,
    }
    return render(request, "audit/checking.html", context)


@require_safe
def checking_program(request: ReaderRequest) -> FileResponse:
    """Download the program that checks a bundle with the Go project's code."""
    access.checkable(request.member)
    return FileResponse(PROGRAM.open("rb"), as_attachment=True, content_type="text/plain; charset=utf-8")
