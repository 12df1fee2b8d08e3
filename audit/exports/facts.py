"""An entry as exports have it: the same facts in a line of JSON and in a row of a table."""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from audit import describe
from audit.access import Found
from audit.models import Entry

LEAF: Final = b"\x00"
# What the columns of CSV are called, and what they hold.
COLUMNS: Final = {
    "epoch": "Which log of the organization: 1 unless it was opened anew",
    "index": "The entry's place in that log, from 0",
    "time": "When, in UTC",
    "act": "What was done",
    "actor": "Who did it, as an id",
    "actor_name": "Their name then; empty where it was erased",
    "actor_email": "Their address then; empty where it was erased",
    "ip": "Where they were; empty where it was erased",
    "user_agent": "With which program; empty where it was erased",
    "target": "What it was done to, as an id",
    "request_id": "By which request",
    "summary": "The same in words",
    "data": "Every fact of the entry, as JSON",
    "sealed": "Other personal data of the entry, as JSON",
    "leaf_hash": "The entry's hash in the tree, in hex",
}
OF_ACTOR: Final = {"name": "actor_name", "email": "actor_email", "ip": "ip", "user_agent": "user_agent"}
# What makes a spreadsheet run a cell as a formula; the wide forms do so in some languages (OWASP, CSV injection).
FORMULA: Final = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def line(found: Found) -> bytes:
    """Return one line of JSON, with its LF."""
    return json.dumps(facts(found), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def facts(found: Found) -> dict[str, Any]:
    """Return an entry's facts; in `sealed` a value that was erased is null."""
    entry, read = found.entry, read_leaf(bytes(found.entry.leaf))
    return {
        "epoch": entry.epoch,
        "index": entry.index,
        "time": _time(read, entry),
        "act": entry.act,
        "actor": entry.actor,
        "target": entry.target,
        "request_id": entry.request_id,
        "data": _members(read.get("data")),
        "sealed": {name: found.opened.get(name) for name in _members(read.get("sealed"))},
        "leaf_hash": sha256(LEAF + bytes(entry.leaf)).hexdigest(),
    }


def row(found: Found) -> Sequence[str]:
    """Return the cells of an entry, none of which a spreadsheet runs."""
    told = facts(found)
    known = {**found.whole, **{name: value for name, value in told["sealed"].items() if value}}
    others = {name: value for name, value in told["sealed"].items() if name not in OF_ACTOR}
    cells = told | {
        **{column: known.get(name, "") for name, column in OF_ACTOR.items()},
        "summary": describe.describe(told["act"], told["data"]),
        "data": _json(told["data"]),
        "sealed": _json(others),
    }
    return [cell(str(cells[column])) for column in COLUMNS]


def cell(text: str) -> str:
    """Return a text as a cell: an apostrophe before what a spreadsheet would run."""
    return f"'{text}" if text.startswith(FORMULA) else text


def read_leaf(leaf: bytes) -> Mapping[str, Any]:
    """Return an entry's members; none for bytes that are no entry any more, which its hash tells of."""
    try:
        return _members(json.loads(leaf))
    except (ValueError, RecursionError):
        return {}


def _time(read: Mapping[str, Any], entry: Entry) -> str:
    return str(read.get("t") or entry.at.isoformat())


def _members(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) if value else ""
