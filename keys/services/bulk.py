"""The same change to many keys, chosen on the Keys page: each with its own entry, all or none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from audit import ledger
from keys.callers import Caller
from keys.errors import KeysError
from keys.models import ApiKey


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of each chosen key: those that changed, and those that could not, with the reason."""

    changed: tuple[ApiKey, ...]
    refused: tuple[tuple[ApiKey, str], ...]


def change_many(
    keys: Sequence[ApiKey], change: Callable[[ApiKey], object], *, actor: Caller, organization_id: str
) -> Outcome:
    """Apply one service to each key in one transaction; a key that refuses it does not stop the others.

    Writes what `change` writes, entry by entry. Keys are taken in order of id, so that two acts at once can't
    deadlock.
    """
    changed: list[ApiKey] = []
    refused: list[tuple[ApiKey, str]] = []
    with ledger.recording(organization_id, actor):
        for key in sorted(keys, key=lambda key: key.id):
            try:
                change(key)
            except KeysError as error:
                refused.append((key, error.detail))
            else:
                changed.append(key)
    return Outcome(tuple(changed), tuple(refused))
