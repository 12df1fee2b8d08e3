"""The verifier keys of a ledger, from its own entries: what is published, and what signs."""

from audit.errors import EntryInvalid
from audit.models import Entry
from audit.signatures import key_life
from audit.signatures.key_life import KeyEvent


def published(organization_id: str, epoch: int) -> list[str]:
    """Return every verifier key that one epoch of a ledger ever announced, oldest first (spec LEDGER, Bytes 7 and 13).

    Retired keys are among them: what they signed stays proof. Empty where there is no such epoch. Run it in a
    transaction that sees the organization; by the index on acts, whatever the ledger's length.
    """
    return key_life.published(events(organization_id, epoch))


def signing(organization_id: str, epoch: int) -> list[str]:
    """Return the verifier keys with which the next checkpoint of an epoch is to be signed, oldest first."""
    return key_life.signing(events(organization_id, epoch))


def events(
    organization_id: str, epoch: int, *, size: int | None = None, using: str = "default"
) -> list[KeyEvent]:
    """Return what an epoch's entries say of its keys, in order.

    `size`: of the first so many entries alone. `using`: the login, `notary` for the notary. An entry whose bytes are
    no entry any more says nothing; the verifiers tell of it.
    """
    entries = Entry.objects.of(organization_id).using(using).filter(epoch=epoch, act__in=list(key_life.ACTS))
    if size is not None:
        entries = entries.filter(index__lt=size)
    return [found for entry in entries.order_by("index") if (found := _event(entry))]


def _event(entry: Entry) -> KeyEvent | None:
    try:
        return key_life.event(entry.parsed())
    except EntryInvalid:
        return None
