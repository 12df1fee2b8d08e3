"""Which signing keys a ledger knows, and which of them sign at a time (spec LEDGER, Bytes 13). Pure.

The ledger itself says it: its first entry announces a key, `ledger.key_added` announces a newer one, and
`ledger.key_retired` ends an older one. What stands in the entries below a size decides who signs that size, never the
clock and never what keys somebody holds; so everybody who has the entries finds the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from audit.acts import Act
from audit.entry import ParsedEntry

# How long an older key signs beside a newer one, so that everybody has the time to learn of the newer.
BOTH_SIGN: Final = timedelta(days=90)
OPENING: Final = frozenset({Act.LEDGER_OPENED, Act.LEDGER_REOPENED})
ACTS: Final = OPENING | {Act.LEDGER_KEY_ADDED, Act.LEDGER_KEY_RETIRED}


@dataclass(frozen=True, slots=True)
class KeyEvent:
    """What one entry says of a verifier key: `act` is one of `ACTS`, `at` the entry's time."""

    act: Act
    vkey: str
    at: datetime


def event(entry: ParsedEntry) -> KeyEvent | None:
    """Return what an entry says of a key; None where it says nothing.

    An act that opens a ledger counts as its first entry alone, and a text that is no string names no key.
    """
    vkey = entry.data.get("vkey")
    if entry.act not in ACTS or not isinstance(vkey, str) or (entry.act in OPENING) != (entry.i == 0):
        return None
    return KeyEvent(Act(entry.act), vkey, entry.t)


def published(events: Iterable[KeyEvent]) -> list[str]:
    """Return every verifier key that one epoch of a ledger ever announced, oldest first; retired ones stay."""
    return list(dict.fromkeys(event.vkey for event in events if event.act != Act.LEDGER_KEY_RETIRED))


def signing(events: Sequence[KeyEvent]) -> list[str]:
    """Return the verifier keys that sign an epoch whose entries say `events`: announced, not retired, oldest first.

    The newest key always signs, whatever retires it: a ledger that no key signs could not even say so.
    """
    announced = published(events)
    retired = {event.vkey for event in events if event.act == Act.LEDGER_KEY_RETIRED}
    return [vkey for vkey in announced if vkey not in retired or vkey == announced[-1]]


def overdue(events: Sequence[KeyEvent], now: datetime) -> list[str]:
    """Return the verifier keys to retire: those that have signed beside a newer one for 90 days, oldest first."""
    since = {event.vkey: event.at for event in reversed(events) if event.act != Act.LEDGER_KEY_RETIRED}
    announced, still = published(events), signing(events)
    return [vkey for vkey, newer in pairwise(announced) if vkey in still and now - since[newer] >= BOTH_SIGN]
