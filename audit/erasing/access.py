"""The only door to erasing: an owner's, for people whom the organization's own log knows."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.core.exceptions import PermissionDenied
from django.http import Http404

from audit import ports
from audit.erasing import finding
from audit.models import Entry, Erasure
from audit.ports import Reader
from audit.services import erasing


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasable:
    """Somebody whose data an owner may erase, and how much that is: `is_all` is false where more was not counted."""

    person_id: str
    addresses: Sequence[str]
    label: str
    entries: int
    fields: int
    is_all: bool


def require_eraser(member: Reader) -> None:
    """Raise `PermissionDenied` for whoever may not erase from the log."""
    if not member.may_erase:
        raise PermissionDenied


def erasable(member: Reader, text: str, *, with_notes: bool) -> Erasable:
    """Return whom an id or e-mail address means in this organization's log, and what it holds of them.

    An account that never acted here is nobody: neither is an address found by its id, nor an id by its address.
    Raises `PermissionDenied`.
    """
    require_eraser(member)
    organization_id, asked = member.organization_id, text.strip().lower()
    person_id, addresses = _account(organization_id, asked)
    if not person_id:
        addresses = [asked] if "@" in asked else []
    chosen = person_id or ("" if addresses else asked)
    sought = erasing.sought_of(organization_id, chosen, addresses, with_notes=with_notes)
    entries, fields, is_all = erasing.survey(organization_id, sought)
    return Erasable(
        person_id=chosen,
        addresses=sought.addresses,
        label=_label(organization_id, chosen, asked),
        entries=entries,
        fields=fields,
        is_all=is_all,
    )


def erasure(member: Reader, erasure_id: str) -> Erasure:
    """Return one erasure; raises `PermissionDenied`, and `Http404` for a stranger's as for none."""
    require_eraser(member)
    found = Erasure.objects.filter(organization_id=member.organization_id, pk=erasure_id).first()
    if found is None:
        raise Http404
    return found


def _label(organization_id: str, person_id: str, asked: str) -> str:
    """Return what somebody is called here: what was typed, or for an id the address that the log has of them.

    Never an address that the account has got since: it is no business of an organization that they left.
    """
    known = sorted(finding.own_addresses(organization_id, person_id)) if asked == person_id else []
    return known[0] if known else asked


def _account(organization_id: str, text: str) -> tuple[str, Sequence[str]]:
    """Return the account that an id or address means, where it ever acted in the organization; else nobody's."""
    for person in ports.person:
        person_id, addresses = person(text)
        if person_id and Entry.objects.of(organization_id).filter(actor=person_id).exists():
            return person_id, addresses
    return "", ()
