"""Which scopes of the catalogue are in use, and by how many keys."""

from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from django.db.models import Count

from keys.models import ApiKeyQuerySet, Scope
from keys.models.key import KeyTerm
from keys.pages.offers import OWN_API
from keys.pages.words import KIND_NAMES, resource_of, spoken

PREFIX = "scope:"


@dataclass(frozen=True, slots=True, kw_only=True)
class InUse:
    """One scope, the kinds that may carry it in words, and how many running keys do."""

    scope: Scope
    kinds: str
    keys: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The scopes of one resource."""

    label: str
    scopes: list[InUse]


def groups(keys: ApiKeyQuerySet, now: datetime) -> list[Group]:
    """Return the catalogue by resource, the portal's own last, counted over those of `keys` that have not ended."""
    running = keys.not_ended(now).order_by().values("pk")
    counted = dict(
        KeyTerm.objects.filter(key_id__in=running, term__startswith=PREFIX)
        .values("term")
        .annotate(keys=Count("key_id"))
        .values_list("term", "keys")
    )
    rows = sorted(Scope.objects.all(), key=lambda row: (row.is_builtin, resource_of(row.name), row.name))
    return [
        Group(label=label, scopes=[_in_use(row, counted.get(f"{PREFIX}{row.name}", 0)) for row in group])
        for label, group in groupby(rows, key=_label)
    ]


def _label(row: Scope) -> str:
    return OWN_API if row.is_builtin else spoken(resource_of(row.name)).capitalize()


def _in_use(row: Scope, keys: int) -> InUse:
    return InUse(scope=row, kinds=", ".join(KIND_NAMES[kind] for kind in row.kinds), keys=keys)
