"""What entries tell of terms: what changed of them, in so many parts that none outgrows its leaf. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from orgs import terms
from orgs.terms import Terms

AS_PLAN: Final = "as the plan says"
NO_LIMIT: Final = "no limit"
# Of the longest names, before and after, as many as one leaf holds beside the plan's own words.
PER_ENTRY: Final = 40

type Part = dict[str, dict[str, Any]]


def told(plan: Terms) -> dict[str, object]:
    """Return the limits of terms as an entry tells of them; of entitlements `told_entitlements` does."""
    return {
        terms.RATE_LIMIT: str(plan.rate_limit or NO_LIMIT),
        terms.MONTHLY_QUOTA: _number(plan.monthly_quota),
        terms.KEY_CAP: _number(plan.key_cap),
    }


def told_entitlements(entitlements: Mapping[str, Any]) -> list[str]:
    """Return entitlements as an entry tells of them, in order of their names."""
    return [terms.spelled(entitlements, name) for name in sorted(entitlements)]


def parts(changes: Part, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Part]:
    """Return `changes` with what changed between two mappings of entitlements, the first `PER_ENTRY` in the same part.

    Empty where nothing changed.
    """
    slices = list(_slices(before, after))
    first = _joined(changes, slices[0]) if slices else changes
    return [part for part in (first, *slices[1:]) if part]


def changed_overrides(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Part]:
    """Return what changed between two sets of overrides, for one entry each; empty where nothing did."""
    limits = [name for name in terms.OVERRIDABLE if name != terms.ENTITLEMENTS]
    old, new = ({name: _override(each, name) for name in limits} for each in (before, after))
    changed = [name for name in limits if old[name] != new[name]]
    changes: Part = {}
    if changed:
        changes = {
            "before": {name: old[name] for name in changed},
            "after": {name: new[name] for name in changed},
        }
    return parts(changes, before.get(terms.ENTITLEMENTS, {}), after.get(terms.ENTITLEMENTS, {}))


def _override(overrides: Mapping[str, Any], name: str) -> object:
    if name not in overrides:
        return AS_PLAN
    own = terms.effective(Terms(), {name: overrides[name]})
    return told(own)[name]


def _number(value: int | None) -> object:
    return NO_LIMIT if value is None else value


def _slices(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Part]:
    names = terms.differing(before, after)
    for start in range(0, len(names), PER_ENTRY):
        some = names[start : start + PER_ENTRY]
        yield {
            "before": {terms.ENTITLEMENTS: _spelled(before, some)},
            "after": {terms.ENTITLEMENTS: _spelled(after, some)},
        }


def _spelled(entitlements: Mapping[str, Any], names: list[str]) -> list[str]:
    return [terms.spelled(entitlements, name) for name in names if name in entitlements]


def _joined(changes: Part, more: Part) -> Part:
    return {side: {**changes.get(side, {}), **more[side]} for side in ("before", "after")}
