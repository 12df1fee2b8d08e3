"""Erasing a person's sealed data: the openings go, with an entry that names them; entries and roots stay.

A ledger is walked through once, some thousand entries at a time, each step in a transaction of its own: the first at
once, the rest by the worker. A step that was cut off is done again from where the one before ended.
"""

from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Final

from django.db.models import Q
from django.utils import timezone

from audit import entry as entry_rules
from audit import ids, ledger, mailing, ports, queue, tenancy
from audit.actors import Actor
from audit.acts import Act
from audit.erasing import erasures, finding
from audit.erasing.finding import BEFORE_ALL, Found, Sought
from audit.errors import EntryInvalid
from audit.models import Attempt, Endpoint, Entry, Erasure, Export, Mail, SupportSession
from audit.models.notice import MAX_SUBJECT

# A step looks at so many entries at most, in pages, and ends where it has found enough to erase.
MOST_LOOKED_AT: Final = 20_000
PAGE: Final = 2_000
ENOUGH: Final = 1_000
# What a page or a dry run counts before it says "at least".
MOST_COUNTED: Final = 100_000
SHORTEST: Final = 4
EXPORTS: Final = (Act.EXPORT_REQUESTED, Act.EXPORT_MADE)


def erase_person(
    organization_id: str,
    person_id: str,
    *,
    actor: Actor,
    addresses: Collection[str] = (),
    with_notes: bool = False,
    note: str = "",
) -> Erasure:
    """Begin to erase what one organization's ledger seals of a person, and return how far it has come.

    What one step can do is done at once; a job of the worker does the rest (`advance_erasure`). Copies of what is
    erased go in the same transaction: in mails, exports, open support sessions, and what the other apps keep. Run it
    within the organization, or outside of any.

    Args:
        organization_id: whose ledger.
        person_id: `usr_…`; "" for somebody who never had an account.
        actor: an owner, or the operator's command. What they seal of themselves is not recorded where they erase
            themselves.
        addresses: e-mail addresses to look for, beside those of the account and those with which the person acted.
        with_notes: erase the free text that they wrote, too (notes, reasons, descriptions). What others wrote goes
            where it holds one of the addresses.
        note: why, in free text, such as a ticket's number; sealed, without the addresses that it erases.

    Writes a row, and `ledger.erasure` entries; where there is nothing yet for one to name, that it was asked for, as
    `ledger.erasure_requested`. Raises `LedgerUnavailable`.
    """
    with tenancy.within(organization_id), ledger.recording(organization_id, actor):
        sought = sought_of(organization_id, person_id, addresses, with_notes=with_notes)
        erasure = Erasure.objects.create(
            id=ids.new("era"),
            organization_id=organization_id,
            person_id=person_id,
            addresses=list(sought.addresses),
            with_notes=with_notes,
            asked_by=actor.id,
            created_at=timezone.now(),
        )
        note = finding.without(note, sought.addresses)
        has_more = _step(erasure, actor=actor, note=note)
        # In this step, which leaves an entry: the last one need not find anything.
        _clean_descriptions(erasure)
        for forget in ports.on_person_erased:
            forget(organization_id, sought.addresses)
        if not erasure.entries:
            _record_request(erasure, actor=actor, note=note)
        if has_more:
            queue.put(
                "audit.erase",
                lock=f"erase {erasure.id}",
                arguments={"organization_id": organization_id, "erasure_id": erasure.id},
            )
    return erasure


def advance_erasure(organization_id: str, erasure_id: str) -> bool:
    """Do the next step of an erasure in a transaction of its own; return whether there is more to do.

    Two at once do one after the other what is there to do, once.
    """
    with tenancy.within(organization_id):
        erasure = Erasure.objects.select_for_update().filter(pk=erasure_id, finished_at__isnull=True).first()
        if erasure is None:
            return False
        actor = Actor(id=erasure.asked_by)
        with ledger.recording(organization_id, actor):
            return _step(erasure, actor=actor, note="")


def sought_of(
    organization_id: str, person_id: str, addresses: Collection[str] = (), *, with_notes: bool = False
) -> Sought:
    """Return what to look for: the person, with every address that is known of them. Run it within the organization."""
    known = {address.strip().lower() for address in addresses}
    # Of an account that never acted here nothing is asked: an owner would learn a stranger's address by its id.
    if person_id and Entry.objects.of(organization_id).filter(actor=person_id).exists():
        known |= set(finding.own_addresses(organization_id, person_id))
        for person in ports.person:
            known |= set(person(person_id)[1])
    return Sought(person_id=person_id, addresses=sorted(known - {""}), with_notes=with_notes)


def survey(organization_id: str, sought: Sought) -> tuple[int, int, bool]:
    """Return how many entries and fields would go, and whether that is all: at most 100,000 entries are looked at."""
    entries = fields = looked_at = 0
    after = BEFORE_ALL
    while looked_at < MOST_COUNTED:
        found, after, count = finding.page(organization_id, sought, after, PAGE)
        if not count:
            return entries, fields, True
        looked_at += count
        fields += len(found)
        entries += len({each.position for each in found})
    return entries, fields, False


def _step(erasure: Erasure, *, actor: Actor, note: str) -> bool:
    """Erase what the next entries hold, and note how far that was; return whether there is more."""
    organization_id = erasure.organization_id
    sought = Sought(person_id=erasure.person_id, addresses=erasure.addresses, with_notes=erasure.with_notes)
    # Alone with it until the end: two erasures do not name the same twice, and no mail is made of what goes here.
    mailing.locked_cursor(organization_id)
    found, has_more = _look(erasure, sought)
    _clean_mails(organization_id, found)
    _clean_support(found)
    unsealed = [
        ports.Unsealed(act=one.act, target=one.target, field=one.field, value=one.value) for one in found
    ]
    for forget in ports.on_erased:
        forget(organization_id, unsealed)
    if not has_more:
        _clean_addresses(organization_id, sought.addresses)
        erasure.addresses, erasure.finished_at = [], timezone.now()
    erasure.entries += len({each.position for each in found})
    erasure.fields += len(found)
    erasure.save()
    _record(erasure, found, actor=actor, note=note)
    _remove_exports(organization_id, found)
    return has_more


def _look(erasure: Erasure, sought: Sought) -> tuple[list[Found], bool]:
    """Go on through the ledger until there is enough for one step."""
    everything: list[Found] = []
    looked_at = 0
    while looked_at < MOST_LOOKED_AT and len(everything) < ENOUGH:
        after = (erasure.epoch, erasure.index)
        found, end, count = finding.page(erasure.organization_id, sought, after, PAGE)
        everything += found
        erasure.epoch, erasure.index = end
        looked_at += count
        if count < PAGE:
            return everything, False
    return everything, True


def _record(erasure: Erasure, found: Sequence[Found], *, actor: Actor, note: str) -> None:
    """Append the entries that name what goes; appending them deletes it."""
    if not found:
        return
    with ledger.recording(erasure.organization_id, _who(erasure, actor)) as entry:
        epoch = ledger.lock(erasure.organization_id).epoch
        for batch in erasures.batches((each.position, each.field) for each in found):
            entry(
                Act.LEDGER_ERASURE,
                target=erasure.person_id or erasure.organization_id,
                data={"erasure": erasure.id, "with_notes": erasure.with_notes, **batch.data(epoch)},
                sealed={"note": note},
            )


def _record_request(erasure: Erasure, *, actor: Actor, note: str) -> None:
    """Append that somebody asked: a row is written, and what quotes the person elsewhere is cleaned all the same."""
    with ledger.recording(erasure.organization_id, _who(erasure, actor)) as entry:
        entry(
            Act.LEDGER_ERASURE_REQUESTED,
            # Not the person: nothing says that this organization ever knew them.
            target=erasure.id,
            data={"with_notes": erasure.with_notes},
            sealed={"note": note},
        )


def _who(erasure: Erasure, actor: Actor) -> Actor:
    """Return the actor without what is personal where they erase themselves: they leave none behind in doing so."""
    is_own = actor.id == erasure.person_id
    return Actor(id=actor.id, request_id=actor.request_id) if is_own else actor


def _clean_mails(organization_id: str, found: Sequence[Found]) -> None:
    """Take out of the mails about these entries what they sealed."""
    said: dict[tuple[int, int], set[str]] = {}
    for each in found:
        said.setdefault(each.position, set()).add(each.value)
    for epoch in {position[0] for position in said}:
        indexes = [i for e, i in said if e == epoch]
        for mail in Mail.objects.filter(organization_id=organization_id, epoch=epoch, index__in=indexes):
            _clean(mail, said[mail.epoch, mail.index])


def _clean_support(found: Sequence[Found]) -> None:
    """Take the reason of what is open still; the database takes it from what ends."""
    opened = [one.target for one in found if one.act == Act.SUPPORT_OPENED and one.field == "reason"]
    SupportSession.objects.filter(pk__in=opened, ended_at=None).update(reason=finding.ERASED)


def _remove_exports(organization_id: str, found: Sequence[Found]) -> None:
    """Remove what was asked for with these words: it can't be made without them. The ledger's head is locked."""
    asked = {one.target for one in found if one.act in EXPORTS and one.field == "filters"}
    Export.objects.filter(organization_id=organization_id, pk__in=asked).delete()


def _clean_descriptions(erasure: Erasure) -> None:
    """Take the descriptions of webhooks that the person wrote: no entry holds those."""
    if not (erasure.with_notes and erasure.person_id):
        return
    described = Endpoint.objects.filter(organization_id=erasure.organization_id).exclude(description="")
    for endpoint in described.select_for_update():
        if _describer(endpoint) == erasure.person_id:
            endpoint.description = finding.ERASED
            endpoint.save(update_fields=["description"])


def _describer(endpoint: Endpoint) -> str:
    """Return who wrote a webhook's description: whoever changed it last, else whoever made it."""
    changed = Entry.objects.of(endpoint.organization_id).filter(target=endpoint.id, act=Act.WEBHOOK_CHANGED)
    for entry in changed.newest_first().iterator(chunk_size=100):
        with suppress(EntryInvalid):
            if "description" in entry_rules.parse(bytes(entry.leaf)).data.get("changed", ()):
                return entry.actor
    return endpoint.created_by


def _clean_addresses(organization_id: str, addresses: Sequence[str]) -> None:
    """Take the addresses out of what else quotes them."""
    words = [address for address in addresses if len(address) >= SHORTEST]
    for mail in Mail.objects.filter(_any_of(words, "text", "subject"), organization_id=organization_id):
        _clean(mail, words)
    for attempt in Attempt.objects.filter(_any_of(words, "text", "detail"), organization_id=organization_id):
        attempt.text, attempt.detail = (finding.without(t, words) for t in (attempt.text, attempt.detail))
        attempt.save(update_fields=["text", "detail"])


def _any_of(words: Sequence[str], *columns: str) -> Q:
    found = Q(pk__in=[])
    for column in columns:
        for word in words:
            found |= Q(**{f"{column}__icontains": word})
    return found


def _clean(mail: Mail, values: Collection[str]) -> None:
    mail.subject = finding.without(mail.subject, values)[:MAX_SUBJECT]
    mail.text = finding.without(mail.text, values)
    mail.save(update_fields=["subject", "text"])
