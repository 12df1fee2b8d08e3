"""The list of keys: filters that indexes answer, orders that page by keyset. Shared by the Keys page and the API.

A cursor is the place of the last row that was shown, so that nothing is skipped or repeated while keys are made.
It is opaque but not secret: who changes one pages from elsewhere through a list that they see anyway.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from django.db.models import Exists, Expression, F, OrderBy, OuterRef, Q, QuerySet
from django.db.models.fields.tuple_lookups import Tuple, TupleGreaterThan, TupleLessThan
from django.db.models.lookups import Exact, GreaterThan, LessThan

from keys import health
from keys.errors import Invalid
from keys.models import ApiKey, ApiKeyQuerySet, KeyFinding, KeySecret
from keys.models.key import KeyTerm
from keys.models.use import NEVER, last_used
from keys.policy.fields import MAX_NAME
from orgs.models import Environment, Project

DEFAULT_SORT: Final = "-created_at"
DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200
MAX_CURSOR: Final = 512
# So many keys are found faster by their ids than by asking of each key, in the list's order, whether it is among them.
FEW: Final = 500
FORWARD, BACKWARD = "n", "p"

ID: Final = re.compile(r"key_[a-z2-7]{20}")
_HINT: Final = re.compile(r"(?:[a-z0-9]{2,8}_(?:in|cp|sv)_(?:live|test)_)?([0-9A-Za-z]{4})(?:…|\.\.\.)?")
_NAME: Final = re.compile(rf"[a-z0-9][a-z0-9-]{{0,{MAX_NAME - 1}}}")
# Sorts after every character of a name, in the collation of bytes.
_AFTER_NAMES: Final = "~"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a list is narrowed to; an empty value narrows nothing, an unknown one leaves nothing.

    Args:
        organization_id: whose keys; indexes are led by it.
        status, kind: as `keys.models.Status` and `keys.secret.Kind` spell them.
        environment: a slug.
        project: a project's id; its descendants count.
        owner: the id of a member (`usr_…`), or a team's name.
        scope: as a key carries it, a wildcard only as such.
        tags: (name, value) each; all must be there.
        search: a key's full id, the hint of any of its secrets (also as `ks_cp_live_AbCd…`), or the start of its
            name.
        expires_before: keys that expire, and do so before this.
        unused_since: keys that were made before this and not used at or after it.
        created_before: keys that were made before this.
        health: `NEVER_USED`, `NO_EXPIRY`, or one of `keys.models.Finding`, as of when the keys were last looked at.
    """

    organization_id: str
    status: str = ""
    kind: str = ""
    environment: str = ""
    project: str = ""
    owner: str = ""
    scope: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    search: str = ""
    expires_before: datetime | None = None
    unused_since: datetime | None = None
    created_before: datetime | None = None
    health: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is narrowed but to the organization."""
        return self == Filters(organization_id=self.organization_id)

    @property
    def fingerprint(self) -> str:
        """Return a short digest, by which a cursor knows the list that it belongs to."""
        text = json.dumps(astuple(self), default=str)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Page:
    """One page of keys, each with `use`, and the cursors of its neighbours; None where the list ends."""

    items: Sequence[ApiKey]
    next: str | None
    previous: str | None


def apply(queryset: ApiKeyQuerySet, filters: Filters, now: datetime) -> ApiKeyQuerySet:
    """Narrow the keys that the caller sees (`keys.access`) to those that the filters let through.

    Asks small questions of the database first (environment, project, terms, hint), one for each such filter, so that
    the planner knows the ids when it chooses an index.
    """
    found = queryset.of(filters.organization_id)
    if has_nul(filters):
        return found.none()
    for narrow in (_by_state, _by_place, _by_terms, _by_time, _by_health):
        found = narrow(found, filters, now)
    return _by_search(found, filters) if filters.search else found


def page(
    queryset: ApiKeyQuerySet,
    *,
    filters: Filters,
    sort: str = DEFAULT_SORT,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page:
    """Return one page of what `apply` left, in at most three queries whatever its length.

    The ids come first and the rest by them: joined to nothing, they leave the planner one index to choose.

    Args:
        queryset: as `apply` returned it for the same `filters`.
        sort: one of `SORTS`; a minus sign for falling. Empty times come last either way.
        cursor: of a neighbouring page of the same list; None for the first page.
        limit: 1 to 200 keys.

    Raises:
        Invalid: not a sort, or a cursor that is broken or of another list (fields `sort`, `cursor`).
    """
    order = _order(sort)
    place = None if cursor is None else _Place.read(cursor, sort, filters)
    back = place is not None and place.direction == BACKWARD
    ids = _ids(_joined(queryset, order, filters), order, place, limit + 1, back=back)
    more, items = len(ids) > limit, _loaded(ids[:limit], filters)
    if back:
        items.reverse()
    shown = _Cursors(order, sort, filters)
    return Page(
        items=items,
        next=shown.after(items) if (back or more) else None,
        previous=shown.before(items) if (more if back else place is not None) else None,
    )


def has_nul(filters: Filters) -> bool:
    """Tell whether some text has a NUL: PostgreSQL has none in text, so that nothing can be found by one."""
    texts = [value for value in astuple(filters) if isinstance(value, str)]
    return any("\0" in text for text in (*texts, *(part for tag in filters.tags for part in tag)))


def _by_state(found: ApiKeyQuerySet, filters: Filters, now: datetime) -> ApiKeyQuerySet:
    found = found.with_status(filters.status, now) if filters.status else found
    return found.filter(kind=filters.kind) if filters.kind else found


def _by_place(found: ApiKeyQuerySet, filters: Filters, _now: datetime) -> ApiKeyQuerySet:
    if filters.environment:
        named = Environment.objects.filter(
            organization_id=filters.organization_id, slug=filters.environment
        ).first()
        found = found.filter(environment_id=named.id) if named else found.none()
    if filters.project:
        below = Project.objects.of(filters.organization_id).filter(path__contains=f"/{filters.project}/")
        found = found.in_projects([project.id for project in below])
    if filters.owner.startswith("usr_"):
        return found.filter(owner_user_id=filters.owner)
    return found.filter(owner_team=filters.owner) if filters.owner else found


def _by_terms(found: ApiKeyQuerySet, filters: Filters, _now: datetime) -> ApiKeyQuerySet:
    terms = [f"tag:{name}={value}" for name, value in filters.tags]
    for term in [*terms, f"scope:{filters.scope}"] if filters.scope else terms:
        carrying = KeyTerm.objects.filter(organization_id=filters.organization_id, term=term)
        found = _among(found, carrying)
    return found


def _among(found: ApiKeyQuerySet, rows: QuerySet[Any]) -> ApiKeyQuerySet:
    """Narrow to the keys that rows of another table name."""
    ids = list(rows.values_list("key_id", flat=True)[: FEW + 1])
    if len(ids) <= FEW:
        return found.filter(pk__in=ids)
    return found.filter(Exists(rows.filter(key_id=OuterRef("pk"))))


def _by_health(found: ApiKeyQuerySet, filters: Filters, now: datetime) -> ApiKeyQuerySet:
    match filters.health:
        case "":
            return found
        case health.NEVER_USED:
            never = found.filter(Exact(last_used("use__"), NEVER), created_at__lt=now - health.NEW_FOR)
            return never.filter(use__organization_id=filters.organization_id)
        case health.NO_EXPIRY:
            return found.filter(expires_at__isnull=True)
        case finding:
            named = KeyFinding.objects.filter(organization_id=filters.organization_id, finding=finding)
            return _among(found, named)


def _by_time(found: ApiKeyQuerySet, filters: Filters, _now: datetime) -> ApiKeyQuerySet:
    if filters.expires_before:
        found = found.filter(expires_at__lt=filters.expires_before)
    if filters.created_before:
        found = found.filter(created_at__lt=filters.created_before)
    if filters.unused_since:
        found = found.filter(
            LessThan(last_used("use__"), filters.unused_since),
            created_at__lt=filters.unused_since,
            use__organization_id=filters.organization_id,
        )
    return found


def _by_search(found: ApiKeyQuerySet, filters: Filters) -> ApiKeyQuerySet:
    """Narrow by id, hint or name; only four letters can be two of these at once."""
    text = filters.search.strip()
    if ID.fullmatch(text):
        return found.filter(pk=text)
    condition = Q(pk__in=[])
    if match := _HINT.fullmatch(text):
        hinted = KeySecret.objects.filter(organization_id=filters.organization_id, hint=match.group(1))
        condition |= Q(pk__in=list(hinted.values_list("key_id", flat=True)[:MAX_LIMIT]))
    if _NAME.fullmatch(text.lower()):
        condition |= Q(name__gte=text.lower(), name__lt=text.lower() + _AFTER_NAMES)
    return found.filter(condition)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """One order: by a value and then by id. `empty` and `present` part the rows, where the value may be missing."""

    value: Expression | F
    id: str
    read: Callable[[ApiKey], Any]
    parse: Callable[[Any], Any]
    present: Any = None
    empty: Any = None
    falls: bool = False

    @property
    def parts(self) -> tuple[Any, ...]:
        return (Q(),) if self.empty is None else (self.present, self.empty)


def _time(value: Any) -> datetime:
    found = datetime.fromisoformat(value)
    if found.tzinfo is None:
        raise ValueError
    return found.astimezone(UTC)


def _name(value: Any) -> str:
    if _NAME.fullmatch(value) is None:
        raise ValueError
    return str(value)


_ORDERS: Final = {
    "created_at": _Order(value=F("created_at"), id="id", read=lambda key: key.created_at, parse=_time),
    "name": _Order(value=F("name"), id="id", read=lambda key: key.name, parse=_name),
    "expires_at": _Order(
        value=F("expires_at"),
        id="id",
        read=lambda key: key.expires_at,
        parse=_time,
        present=Q(expires_at__isnull=False),
        empty=Q(expires_at__isnull=True),
    ),
    "last_used_at": _Order(
        value=last_used("use__"),
        id="use__key_id",
        read=lambda key: key.use.last_used_at,
        parse=_time,
        present=GreaterThan(last_used("use__"), NEVER),
        empty=Exact(last_used("use__"), NEVER),
    ),
}
SORTS: Final = tuple(sign + name for name in _ORDERS for sign in ("", "-"))


def _order(sort: str) -> _Order:
    if sort not in SORTS:
        raise Invalid(f"A sort is one of {', '.join(SORTS)}.", field="sort")
    return replace(_ORDERS[sort.lstrip("-")], falls=sort.startswith("-"))


def _joined(queryset: ApiKeyQuerySet, order: _Order, filters: Filters) -> ApiKeyQuerySet:
    """Join the evidence of use where it orders: by an inner join, because an outer one has no order of its own."""
    return queryset if order.id == "id" else queryset.filter(use__organization_id=filters.organization_id)


def _loaded(ids: Sequence[str], filters: Filters) -> list[ApiKey]:
    """Return the keys of these ids, in their order, with all that a row shows."""
    rows = ApiKey.objects.of(filters.organization_id).select_related(
        "project", "environment", "owner_user", "use"
    )
    found = rows.in_bulk(ids)
    return [found[key_id] for key_id in ids]


def _ids(
    queryset: ApiKeyQuerySet, order: _Order, place: "_Place | None", wanted: int, *, back: bool
) -> list[str]:
    """Return up to `wanted` ids after the place, or before it (`back`), the nearest first."""
    parts = list(order.parts)
    if back:
        parts.reverse()
    if place is not None and order.empty is not None:
        starts = order.empty if place.value is None else order.present
        parts = parts[parts.index(starts) :]
    falls = order.falls != back
    ids: list[str] = []
    for part in parts:
        found = queryset.filter(part).values_list("pk", flat=True)
        if place is not None and part is parts[0]:
            found = found.filter(_beyond(order, place, falls=falls))
        ids += found.order_by(*_by(order, part, falls=falls))[: wanted - len(ids)]
        if len(ids) >= wanted:
            break
    return ids


def _beyond(order: _Order, place: "_Place", *, falls: bool) -> Any:
    """Return the keyset condition as one comparison of rows, which an index answers from the very place on."""
    compare = TupleLessThan if falls else TupleGreaterThan
    if place.value is None:
        return Q(**{f"{order.id}__{'lt' if falls else 'gt'}": place.id})
    return compare(Tuple(order.value, F(order.id)), (place.value, place.id))


def _by(order: _Order, part: Any, *, falls: bool) -> tuple[OrderBy, ...]:
    """Return the order as an index has it; where every value is empty by id alone, which comes to the same."""
    if part is order.empty and order.id != "id":
        return (OrderBy(F(order.id), descending=falls),)
    return OrderBy(order.value, descending=falls), OrderBy(F(order.id), descending=falls)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a page ended, and in which direction the cursor goes from there."""

    direction: str
    value: Any
    id: str

    @classmethod
    def read(cls, cursor: str, sort: str, filters: Filters) -> "_Place":
        """Read a cursor back; raises `Invalid` for whatever is not one of this list's."""
        try:
            if len(cursor) > MAX_CURSOR:
                raise ValueError
            text = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
            sorted_by, fingerprint, direction, value, key_id = json.loads(text)
            is_ours = (sorted_by, fingerprint) == (sort, filters.fingerprint)
            if not is_ours or direction not in {FORWARD, BACKWARD} or ID.fullmatch(key_id) is None:
                raise ValueError
            order = _order(sort)
            if value is None and order.empty is None:
                raise ValueError
            return cls(direction, None if value is None else order.parse(value), key_id)
        except (ValueError, TypeError, OverflowError, RecursionError):
            raise Invalid("This is no cursor of this list.", field="cursor") from None


@dataclass(frozen=True, slots=True)
class _Cursors:
    """Writes the cursors of one page."""

    order: _Order
    sort: str
    filters: Filters

    def after(self, items: Sequence[ApiKey]) -> str | None:
        return self._write(FORWARD, items[-1]) if items else None

    def before(self, items: Sequence[ApiKey]) -> str | None:
        return self._write(BACKWARD, items[0]) if items else None

    def _write(self, direction: str, key: ApiKey) -> str:
        value = self.order.read(key)
        text = value.isoformat() if isinstance(value, datetime) else value
        payload = [self.sort, self.filters.fingerprint, direction, text, key.id]
        return base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=")
