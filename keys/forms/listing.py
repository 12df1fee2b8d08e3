"""What the address of the Keys page asks for: every filter, the order and the place, read with distrust.

What can't be right is left out, and nothing is repeated that looks like a secret: someone will paste one into an
address one day.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, Final, Self
from urllib.parse import urlencode

from django.core.exceptions import SuspiciousOperation
from django.http import QueryDict
from django.urls import reverse

from keys import health, secret
from keys.errors import Invalid
from keys.listing import DEFAULT_SORT, MAX_CURSOR, SORTS, Filters
from keys.models import Finding
from keys.models.key import Status
from keys.policy import check_tags, check_team
from keys.scopes import validate
from keys.secret import Kind

NOT_ENDED: Final = "not_ended"
ANY: Final = "any"
STATUSES: Final[Mapping[str, str]] = {
    NOT_ENDED: "Not ended",
    **{status.value: str(status.label) for status in Status},
    ANY: "Any",
}
EXPIRIES: Final[Mapping[str, str]] = {"1": "Within a day", "7": "Within 7 days", "30": "Within 30 days"}
IDLENESS: Final[Mapping[str, str]] = {"30": "For 30 days", "90": "For 90 days", "180": "For 180 days"}
HEALTH: Final[Mapping[str, str]] = {
    health.NEVER_USED: "Never used",
    health.NO_EXPIRY: "No expiry",
    **{finding.value: str(finding.label) for finding in Finding},
}
MAX_SEARCH: Final = 200
MAX_TAGS: Final = 5

_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_PAIR: Final = re.compile(r"([^:=]*)[:=](.*)")
_PROJECT: Final = re.compile(r"prj_[a-z2-7]{20}")
# The display form, or more of a secret than may be seen of it: only the hint is looked for.
_SHOWN: Final = re.compile(
    r"([a-z0-9]{2,8}_(?:in|cp|sv)_(?:live|test)_[0-9A-Za-z]{4})[0-9A-Za-z]*(?:…|\.\.\.)?"
)
# No id, hint or name is so long and so mixed; the middle of a secret is.
_RANDOM: Final = re.compile(r"(?=[0-9a-z]*[A-Z])(?=[0-9A-Z]*[a-z])(?=[A-Za-z]*[0-9])[0-9A-Za-z]{16,}")
# How long the relative filters of a page stay as its first one had them, while somebody pages on.
_PAGING: Final = timedelta(hours=12)


def is_secret_like(text: str) -> bool:
    """Return whether a text holds a secret, or a long piece of one: then it is neither shown nor kept."""
    return secret.redact(text) != text or _RANDOM.search(text) is not None


def search_text(text: str) -> str:
    """Return what to look for of what somebody typed: of the beginning of a secret no more than its hint."""
    words = text.strip()[:MAX_SEARCH]
    shown = _SHOWN.fullmatch(words)
    return f"{shown.group(1)}…" if shown else words


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One view of the list. `expires` and `unused` are days from `at`, the time of the first page that was shown.

    `had_secret`: something that looked like one was left out.
    """

    status: str = NOT_ENDED
    kind: str = ""
    environment: str = ""
    project: str = ""
    owner: str = ""
    scope: str = ""
    tags: tuple[str, ...] = ()
    expires: str = ""
    unused: str = ""
    health: str = ""
    q: str = ""
    sort: str = DEFAULT_SORT
    at: str = ""
    cursor: str = ""
    had_secret: bool = False

    @classmethod
    def of(cls, given: QueryDict) -> Self:
        """Read an address's query."""
        typed = given.get("q", "")
        had_secret = is_secret_like(typed) or any(
            secret.redact(text) != text for _, texts in given.lists() for text in texts
        )
        read = {name: _read(name, given.get(name, "")) for name in _CHECKS}
        read["q"] = "" if is_secret_like(typed) else _read("q", search_text(typed))
        tags = tuple(dict.fromkeys(tag for text in given.getlist("tag") if (tag := _tag(text))))
        return cls(
            **{name: value for name, value in read.items() if value},
            tags=tags[:MAX_TAGS],
            had_secret=had_secret,
        )

    @classmethod
    def of_text(cls, text: str) -> Self:
        """Read a query that a form carried along."""
        try:
            return cls.of(QueryDict(text[:4_000]))
        except SuspiciousOperation:  # too many fields
            return cls()

    def query(self) -> list[tuple[str, str]]:
        """Return names and values of what is not as the plain page has it."""
        plain = Listing()
        single = [
            (field.name, getattr(self, field.name))
            for field in fields(self)
            if field.name not in {"tags", "had_secret"}
        ]
        return [
            *((name, value) for name, value in single if value != getattr(plain, name)),
            *(("tag", tag) for tag in self.tags),
        ]

    @property
    def text(self) -> str:
        """The query as text."""
        return urlencode(self.query())

    def url(self, name: str = "keys:list") -> str:
        """Return the address of this view; `name` is the URL's."""
        return f"{reverse(name)}?{self.text}" if self.text else reverse(name)

    @property
    def csv_url(self) -> str:
        """The address of the whole list as CSV."""
        return self.but().url("keys:csv")

    def but(self, **changes: Any) -> Self:
        """Return this view with other filters or another order, from its first page."""
        return replace(self, **{"at": "", "cursor": "", **changes})

    def at_page(self, cursor: str, now: datetime) -> Self:
        """Return a neighbouring page; it counts days from the same time as this one."""
        is_relative = self.expires or self.unused
        return replace(self, cursor=cursor, at=self.reference(now).isoformat() if is_relative else "")

    def without(self, name: str, value: str = "") -> Self:
        """Return this view without one filter; of several tags only `value` goes."""
        if name == "tags":
            return self.but(tags=tuple(tag for tag in self.tags if tag != value))
        return self.but(**{name: ANY if name == "status" else ""})

    def active(self) -> Iterator[tuple[str, str]]:
        """Yield name and value of each filter that narrows the list."""
        for name in NAMES:
            value = getattr(self, name)
            if name == "tags":
                yield from ((name, tag) for tag in value)
            elif value and not (name == "status" and value == ANY):
                yield name, value

    def reference(self, now: datetime) -> datetime:
        """Return the time that `expires` and `unused` count from: that of the first page, while somebody pages."""
        try:
            at = datetime.fromisoformat(self.at)
            is_fresh = bool(self.cursor) and now - _PAGING < at <= now
        except (ValueError, TypeError):
            is_fresh = False
        return at if is_fresh else now.replace(microsecond=0)

    def filters(self, organization_id: str, now: datetime) -> Filters:
        """Return what the list of keys understands."""
        at = self.reference(now)
        return Filters(
            organization_id=organization_id,
            status="" if self.status == ANY else self.status,
            kind=self.kind,
            environment=self.environment,
            project=self.project,
            owner=self.owner,
            scope=self.scope,
            tags=tuple((name, value) for name, _, value in (tag.partition(":") for tag in self.tags)),
            search=self.q,
            expires_before=at + timedelta(days=int(self.expires)) if self.expires else None,
            unused_since=at - timedelta(days=int(self.unused)) if self.unused else None,
            health=self.health,
        )


NAMES: Final = (
    "q",
    "status",
    "environment",
    "kind",
    "project",
    "owner",
    "scope",
    "tags",
    "expires",
    "unused",
    "health",
)


def _read(name: str, text: str) -> str:
    """Return a value if it is one, else nothing."""
    return text if text and secret.redact(text) == text and _CHECKS[name](text) else ""


def _tag(text: str) -> str:
    """Return `name:value`, also of `name=value`, if it can be a tag."""
    pair = _PAIR.fullmatch(text)
    if pair is None or secret.redact(text) != text or not _passes(check_tags, {pair[1]: pair[2]}):
        return ""
    return f"{pair[1]}:{pair[2]}"


def _passes(check: Any, value: Any) -> bool:
    try:
        check(value)
    except Invalid:
        return False
    return True


_CHECKS: Final[Mapping[str, Any]] = {
    "status": STATUSES.__contains__,
    "kind": frozenset(Kind).__contains__,
    "environment": _SLUG.fullmatch,
    "project": _PROJECT.fullmatch,
    "owner": lambda text: _passes(check_team, text),
    "scope": lambda text: _passes(validate, text),
    "expires": EXPIRIES.__contains__,
    "unused": IDLENESS.__contains__,
    "health": HEALTH.__contains__,
    "q": lambda text: text.isprintable() and not is_secret_like(text),
    "sort": SORTS.__contains__,
    "at": re.compile(r"[0-9TZ:.+-]{10,40}").fullmatch,
    "cursor": lambda text: len(text) <= MAX_CURSOR,
}
