"""The operator's scope catalogue: added to and changed in the admin site, recorded in the operator's ledger."""

from collections.abc import Sequence
from dataclasses import dataclass

from audit import ledger, tenancy
from audit.actors import Actor
from audit.acts import Act
from keys.errors import Invalid, NameTaken
from keys.models import Scope
from keys.scopes import validate
from keys.secret import Kind
from orgs.roles import Risk


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeDraft:
    """A scope's description, risk, the kinds that may carry it, and whether it is deprecated."""

    description: str
    risk: Risk
    kinds: Sequence[Kind]
    is_deprecated: bool = False


def create_scope(name: str, draft: ScopeDraft, *, actor: Actor) -> Scope:
    """Add a scope to the catalogue; entry `scope.created` in the operator's ledger.

    Raises:
        Invalid: no scope by form, or no kind may carry it.
        NameTaken: the catalogue has it.
    """
    validate(name)
    _check(draft)
    with ledger.recording(tenancy.operator_id(), actor) as entry:
        scope, is_new = Scope.objects.get_or_create(name=name, defaults=_columns(draft))
        if not is_new:
            raise NameTaken("The catalogue already has this scope.", field="name")
        entry(Act.SCOPE_CREATED, target=name, data={"name": name, "after": _columns(draft)})
    return scope


def change_scope(scope: Scope, draft: ScopeDraft, *, actor: Actor) -> Scope:
    """Change a scope; a raised risk narrows keys at their next verification. Entry `scope.changed`.

    Raises:
        Invalid: no kind may carry it.
    """
    _check(draft)
    with ledger.recording(tenancy.operator_id(), actor) as entry:
        stored = Scope.objects.select_for_update().get(pk=scope.pk)
        columns = {name: value for name, value in _columns(draft).items() if getattr(stored, name) != value}
        if columns:
            before = {name: getattr(stored, name) for name in columns}
            Scope.objects.filter(pk=scope.pk).update(**columns)
            entry(
                Act.SCOPE_CHANGED,
                target=scope.pk,
                data={"name": scope.pk, "before": before, "after": columns},
            )
    scope.refresh_from_db()
    return scope


def _check(draft: ScopeDraft) -> None:
    if not draft.kinds:
        raise Invalid("At least one kind of key must be able to carry it.", field="kinds")


def _columns(draft: ScopeDraft) -> dict[str, object]:
    return {
        "description": draft.description,
        "risk": draft.risk.value,
        "kinds": [kind.value for kind in draft.kinds],
        "is_deprecated": draft.is_deprecated,
    }
