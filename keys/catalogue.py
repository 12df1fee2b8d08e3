"""The scope catalogue as the rules want it, read afresh for every request: a new risk counts at once."""

from collections.abc import Mapping

from keys.models import Scope
from keys.scopes import CatalogueScope
from keys.secret import Kind
from orgs.roles import Risk

type Catalogue = Mapping[str, CatalogueScope]


def load(using: str = "default") -> Catalogue:
    """Return every scope of the catalogue by name, in one query."""
    rows = Scope.objects.using(using).values_list("name", "risk", "kinds", "is_deprecated").order_by("name")
    return {
        name: CatalogueScope(
            name=name,
            risk=Risk(risk),
            kinds=frozenset(Kind(kind) for kind in kinds),
            is_deprecated=is_deprecated,
        )
        for name, risk, kinds, is_deprecated in rows
    }


def risks(catalogue: Catalogue) -> dict[str, Risk]:
    """Return the risk of each scope."""
    return {name: scope.risk for name, scope in catalogue.items()}
