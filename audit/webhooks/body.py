"""What an endpoint is sent: `{"type", "timestamp", "data"}`, facts of the entry without personal data. Pure."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from audit import entry as entry_rules
from audit.entry import ParsedEntry

MOST_BYTES: Final = 20_000
TEST: Final = "webhook.test"
# Rounds of cutting: the longest that a text may be, and a list.
_CUTS: Final = ((1024, 200), (256, 50), (64, 10), (0, 0))


def of_entry(entry: ParsedEntry, facts: Mapping[str, Any]) -> bytes:
    """Return the body for an entry: its `data`, `facts` beside it, who acted, and where it stands in the ledger.

    What an entry seals is personal and stays out. The whole is at most 20 kB: where it would be longer, the longest
    texts and lists of `data` are cut and `truncated` says so; `facts` are never cut, but left out whole.
    """
    place = {"actor": entry.actor, "ledger": {"log": entry.log, "index": entry.i}}
    for given in (facts, {}):
        body = _fitting(entry.act, entry.t, entry.data, {**given, **place})
        if body is not None:
            return body
    raise ValueError("no entry is so long")


def of_test(endpoint_id: str, actor: str, at: datetime) -> bytes:
    """Return the body of a test event, which stands in no ledger."""
    data = {"target": endpoint_id, "actor": actor, "ledger": None}
    return _json({"type": TEST, "timestamp": entry_rules.format_time(at), "data": data})


def _fitting(act: str, at: datetime, data: Mapping[str, Any], more: Mapping[str, Any]) -> bytes | None:
    timestamp = entry_rules.format_time(at)
    body = _json({"type": act, "timestamp": timestamp, "data": {**data, **more}})
    for text, items in _CUTS:
        if len(body) <= MOST_BYTES:
            return body
        shorter = {
            name: value if name == "target" else _cut(value, text, items) for name, value in data.items()
        }
        body = _json({"type": act, "timestamp": timestamp, "data": {**shorter, "truncated": True, **more}})
    return body if len(body) <= MOST_BYTES else None


def _cut(value: Any, text: int, items: int) -> Any:
    match value:
        case str() if len(value) > text:
            return value[:text] + "…"
        case list():
            return [_cut(each, text, items) for each in value[:items]]
        case dict():
            kept = list(value.items())[: items or None]
            return {name: _cut(each, text, items) for name, each in kept} if items else {}
        case _:
            return value


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
