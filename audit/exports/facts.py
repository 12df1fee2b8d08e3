"""An entry as exports have it: the same facts in a line of JSON and in a row of a table."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any, Final

from audit import describe
from audit.access import Found

# What the columns of CSV are called, and what they hold.
COLUMNS: Final = {
    "epoch": "Which log of the organization: 1 unless it was opened anew",
    "index": "The entry's place in that log, from 0",
    "at": "When, in UTC",
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
    "personal": "Other personal data of the entry, as JSON; null where it was erased",
    "readable": "Whether the entry's bytes are an entry still: yes or no",
    "leaf_hash": "The entry's hash in the tree, in hex",
}
OF_ACTOR: Final = {"name": "actor_name", "email": "actor_email", "ip": "ip", "user_agent": "user_agent"}
# What makes a spreadsheet run a cell as a formula; the wide forms do so in some languages (OWASP, CSV injection).
FORMULA: Final = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def line(found: Found) -> bytes:
    """Return one line of JSON, with its LF: what `GET /v1/audit/entries` answers of an entry."""
    return json.dumps(facts(found), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def facts(found: Found) -> dict[str, Any]:
    """Return an entry's facts. In `personal` a value that was erased is null; `readable` is false for damaged bytes."""
    entry, parsed = found.entry, found.parsed
    data = parsed.data if parsed else {}
    return {
        "epoch": entry.epoch,
        "index": entry.index,
        "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "act": entry.act,
        "actor": entry.actor,
        "target": entry.target,
        "request_id": entry.request_id,
        "summary": describe.describe(entry.act, data),
        "data": data,
        "personal": dict.fromkeys(parsed.sealed if parsed else ()) | dict(found.opened),
        "readable": parsed is not None,
    }


def row(found: Found) -> Sequence[str]:
    """Return the cells of an entry, none of which a spreadsheet runs."""
    told = facts(found)
    personal = told.pop("personal")
    cells = told | {
        **{column: personal.pop(name, None) or "" for name, column in OF_ACTOR.items()},
        "data": _json(told["data"]),
        "personal": _json(personal),
        "readable": "yes" if told["readable"] else "no",
        "leaf_hash": found.entry.leaf_hash().hex(),
    }
    return [cell(str(cells[column])) for column in COLUMNS]


def cell(text: str) -> str:
    """Return a text as a cell: an apostrophe before what a spreadsheet would run."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) if value else ""
