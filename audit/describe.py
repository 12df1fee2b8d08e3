"""An entry in plain words: pure, from what the leaf says and from what its openings hold.

It knows the shape of entries (`data.before`, `data.after`, facts beside them), not what each act carries: an act that
joins the list is described without a word here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

LONGEST: Final = 240
MINUS: Final = "\N{MINUS SIGN}"
MOST_FACTS: Final = 4
MOST_ITEMS: Final = 3
MOST_LISTED: Final = 100
ELSEWHERE: Final = frozenset({"target", "request_id", "name", "before", "after"})
FIRST: Final = ("reason", "role", "mode", "method")
OPAQUE: Final = re.compile(r"[a-z]{3}_[a-z2-7]{20}|[0-9a-f]{64}|(?s:.{65,})")
TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\d\.\d{3}Z")
# What a name of a fact or field means, where taking its underscores out does not say it.
WORDS: Final = {
    "allowed_ips": "IP ranges",
    "auto_rotate": "rotates by itself",
    "due_at": "due",
    "email": "e-mail",
    "expires_at": "expiry",
    "ip": "IP address",
    "member_email": "member: e-mail",
    "user_email": "person: e-mail",
    "user_name": "person: name",
    "approval_bound": "bound to approvals",
    "may_rotate_itself": "may rotate itself",
    "parameters_digest": "digest of the parameters",
    "place": "entry",
    "plan_digest": "digest of the plan",
    "old_accepted_until": "old secret until",
    "rotates_at": "rotates",
    "rotation_interval_days": "days between rotations",
    "vkey": "verifier key",
    "is_production": "production",
}
TONES: Final = {
    "key.created": "ok",
    "key.enabled": "ok",
    "key.revoked": "bad",
    "key.leaked": "bad",
    "key.expiring": "warn",
    "key.expired": "warn",
    "key.first_network": "warn",
    "rotation.started": "acc",
    "rotation.completed": "ok",
    "rotation.overdue": "warn",
    "rotation.failed": "bad",
    "breakglass.executed": "bad",
    "breakglass.refused": "warn",
    "approval.granted": "ok",
    "approval.denied": "warn",
    "execution.mismatch": "bad",
    "webhook.created": "ok",
    "webhook.disabled": "warn",
    "webhook.secret_rotated": "acc",
    "sso.login_refused": "warn",
    "support.opened": "warn",
    "organization.suspended": "bad",
    "organization.closed": "bad",
    "member.joined": "ok",
    "member.removed": "warn",
    "user.disabled": "warn",
    "ledger.erasure": "warn",
    "ledger.erasure_requested": "warn",
    "ledger.reopened": "bad",
    "clock.regressed": "warn",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One field that changed, with its values in words. `before` is None where the act tells of no earlier value."""

    label: str
    before: tuple[str, ...] | None
    after: tuple[str, ...]

    @property
    def gone(self) -> tuple[str, ...]:
        """The values that are there no more."""
        return tuple(value for value in self.before or () if value not in self.after)

    @property
    def new(self) -> tuple[str, ...]:
        """The values that were not there before."""
        return tuple(value for value in self.after if value not in (self.before or ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An entry as a list shows it. `name`, `who`, `email` and `ip` are personal data or a person's own words.

    `is_readable` is false where the leaf bytes are no entry any more: then nothing but the projection is known.
    """

    place: tuple[int, int]
    act: str
    at: datetime
    actor: str
    target: str
    request_id: str
    summary: str = ""
    name: str = ""
    is_readable: bool = True
    openings: Mapping[str, str] = field(default_factory=dict)

    @property
    def tone(self) -> str:
        """The state class that colours the act."""
        return TONES.get(self.act, "off")

    @property
    def who(self) -> str:
        """Who acted, as the entry itself names them: a later name does not rewrite history."""
        own = self.openings.get("name") or self.openings.get("email")
        return own or ("Keystead" if self.is_system else self.actor)

    @property
    def email(self) -> str:
        """The actor's address, where it says more than `who` does."""
        email = self.openings.get("email", "")
        return "" if email == self.who else email

    @property
    def ip(self) -> str:
        """Where the actor was."""
        return self.openings.get("ip", "")

    @property
    def reason(self) -> str:
        """Why support staff looked, in their own words."""
        return self.openings.get("reason", "") if self.act.startswith("support.") else ""

    @property
    def is_system(self) -> bool:
        """Whether the product itself acted."""
        return self.actor.startswith("sys_")


def describe(act: str, data: Mapping[str, Any]) -> str:
    """Return one line in plain words of what an act did, at most 240 characters, without the name of its target."""
    told = dict(data)
    versions = told.pop("old_version", None), told.pop("new_version", None)
    parts = [_told(change, act) for change in sorted(changes(data), key=_is_plain_no)]
    parts += [
        f"{label_of(name)}: {value}" for name, value in sorted(_facts(told), key=_by_weight) if _says(value)
    ]
    if None not in versions:
        parts.append(f"version {versions[0]} → {versions[1]}")
    shown = parts[:MOST_FACTS]
    if len(parts) > MOST_FACTS:
        shown.append(f"and {len(parts) - MOST_FACTS} more")
    line = " · ".join([happened(act), *shown])
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def happened(act: str) -> str:
    """Return the act's last part in words: `Scopes changed`, `Revoked`."""
    return act.rpartition(".")[2].replace("_", " ").capitalize()


def changes(data: Mapping[str, Any]) -> list[Change]:
    """Return what `data.before` and `data.after` say, in order of their names, without what stayed."""
    before, after = _members(data.get("before")), _members(data.get("after"))
    found = [
        Change(
            label=label_of(name),
            before=_values(before[name]) if name in before else None,
            after=_values(after.get(name)),
        )
        for name in sorted({*before, *after})
    ]
    return [change for change in found if change.before != change.after and (change.before or change.after)]


def facts(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the other members of `data` as (label, value), without those that say nothing."""
    return [(label_of(name), value) for name, value in _facts(data, MOST_LISTED)]


def label_of(name: str) -> str:
    """Return a field's or fact's name in words."""
    return WORDS.get(name, name.replace("_", " ").removeprefix("is "))


def _facts(data: Mapping[str, Any], most: int = MOST_ITEMS) -> list[tuple[str, str]]:
    found = [(name, _joined(_values(value), most)) for name, value in data.items() if name not in ELSEWHERE]
    return [(name, value) for name, value in found if value]


def _is_plain_no(change: Change) -> bool:
    return change.before is None and change.after == ("no",)


def _by_weight(fact: tuple[str, str]) -> int:
    name, value = fact
    return FIRST.index(name) if name in FIRST else len(FIRST) + (value == "no")


def _says(value: str) -> bool:
    """Whether a value tells a reader of a list anything: ids and keys do not."""
    return OPAQUE.fullmatch(value) is None


def _told(change: Change, act: str) -> str:
    if change.before is None:
        return f"{change.label}: {_joined(change.after)}"
    if len(change.before) <= 1 and len(change.after) <= 1:
        return f"{change.label}: {_joined(change.before) or 'none'} → {_joined(change.after) or 'none'}"
    gone, new = _joined(change.gone), _joined(change.new)
    label = "" if act.endswith(f".{change.label}_changed") else change.label
    return " ".join(
        [*([label] if label else []), *([f"{MINUS} {gone}"] if gone else []), *([f"+ {new}"] if new else [])]
    )


def _members(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _values(value: Any) -> tuple[str, ...]:
    match value:
        case None | "" | []:
            return ()
        case list():
            return tuple(_numbered(item) for item in value)
        case dict():
            return tuple(
                f"{label_of(name)} {_joined(_values(item)) or 'none'}" for name, item in value.items()
            )
        case _:
            return (_word(value),)


def _numbered(item: Any) -> str:
    """Return an item of a list in words: a number there is an entry's place, where one alone is a count."""
    return f"#{item}" if isinstance(item, int) and not isinstance(item, bool) else _word(item)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    return TIME.sub(r"\1 \2 UTC", str(value))


def _joined(values: Sequence[str], most: int = MOST_ITEMS) -> str:
    more = len(values) - most
    return ", ".join(values[:most]) + (f" and {more} more" if more > 0 else "")
