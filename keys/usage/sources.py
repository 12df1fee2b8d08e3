"""Which roll-up answers a question: by place, by key, or both, whichever has the fewest rows to read."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from keys.models import Grain
from keys.usage.questions import GroupBy, Question, Window
from keys.usage.rows import COUNTED, OF_KEYS, OF_PLACES, bounds, narrowed
from keys.verdict import Code

type Columns = dict[str, Collection[str] | None]

GROUPS: Final = {
    None: "NULL::text",
    GroupBy.KEY: "r.key_id",
    GroupBy.ORGANIZATION: "r.organization_id",
    GroupBy.ENDPOINT: "r.endpoint",
    GroupBy.REGION: "r.region",
    GroupBy.OUTCOME: "r.code",
    GroupBy.ENVIRONMENT: "e.slug",
    GroupBy.PROJECT: "r.project_id",
}
SUMS: Final = """sum(r.calls)::bigint AS calls,
       coalesce(sum(r.calls) FILTER (WHERE r.code <> 'VALID'), 0)::bigint AS refused,
       coalesce(sum(r.cost) FILTER (WHERE r.code = 'VALID'), 0)::bigint AS cost"""
_COLUMNS: Final = {
    GroupBy.KEY: "key_id",
    GroupBy.ORGANIZATION: "organization_id",
    GroupBy.ENDPOINT: "endpoint",
    GroupBy.REGION: "region",
    GroupBy.OUTCOME: "code",
}
# What the rows by key alone know nothing of; and to find one key's rows they have no index.
_OF_CALLS: Final = (GroupBy.KEY, GroupBy.ENDPOINT, GroupBy.REGION)
_PLACES: Final = frozenset({GroupBy.ENVIRONMENT, GroupBy.PROJECT})
_AT_PLACES: Final = """
   AND project_id IN (SELECT p.id FROM orgs_project p
     WHERE (%(projects)s::text[] IS NULL OR string_to_array(trim(both '/' from p.path), '/') && %(projects)s::text[])
       AND (%(reached)s::text[] IS NULL OR p.id = ANY(%(reached)s::text[])))
   AND environment_id IN (SELECT e.id FROM orgs_environment e
     WHERE %(environments)s::text[] IS NULL OR e.slug = ANY(%(environments)s::text[]))
"""
_OF_KEYS_AT: Final = " AND key_id IN (SELECT k.id FROM keys_apikey k WHERE true {places})"
_KEYS_AT_PLACES: Final = _OF_KEYS_AT.format(places=_AT_PLACES)
_PLACED: Final = """
SELECT c.*, k.project_id, k.environment_id FROM ({rows}) c JOIN keys_apikey k ON k.id = c.key_id
"""
_NAMED: Final = " JOIN orgs_environment e ON e.id = r.environment_id"
_COUNTED: Final = """
SELECT r.at, r.code{names}, sum(r.calls) AS calls, sum(r.cost) AS cost FROM {rows} GROUP BY {numbers}
"""
_TOTALS: Final = "SELECT {group}::text AS name, {sums} FROM {rows} GROUP BY 1"
_SUMMED: Final = """
SELECT r.key_id::text AS name, sum(r.calls)::bigint AS calls, sum(r.refused)::bigint AS refused,
       sum(r.cost)::bigint AS cost
  FROM ({rows}) r GROUP BY r.key_id
"""
_VALID: Final = (
    "SELECT key_id, calls - refused AS calls, 0 AS refused, cost FROM ({rows}) v WHERE calls > refused"
)


@dataclass(frozen=True, slots=True)
class Source:
    """The rows of a question over a window, as SQL for `FROM`, named `r`; all of them take the same `parameters`."""

    question: Question
    window: Window

    @property
    def parameters(self) -> dict[str, Any]:
        """Return what narrows and bounds the rows."""
        filters, (weeks_since, weeks_until) = self.question.filters, self.window.weeks
        return {
            **narrowed(self._columns)[1],
            **bounds(self.window),
            "weeks_since": weeks_since,
            "weeks_until": weeks_until,
            "environments": _listed(filters.get(GroupBy.ENVIRONMENT)),
            "projects": _listed(filters.get(GroupBy.PROJECT)),
            "reached": _listed(self.question.project_ids),
        }

    def rows(self, *groups: GroupBy) -> str:
        """Return the rows with their time and what some groupings need."""
        if GroupBy.KEY not in {*groups, *self.question.filters}:
            rows = self._filled(OF_PLACES, _AT_PLACES, groups)
        else:
            rows = self._filled(COUNTED, _KEYS_AT_PLACES, groups)
            rows = rows if _PLACES.isdisjoint(groups) else _PLACED.format(rows=rows)
        return f"({rows}) r{_NAMED if GroupBy.ENVIRONMENT in groups else ''}"

    def counted(self, *groups: GroupBy) -> str:
        """Return the rows added up by time, outcome and some groupings, `by_…` each: far fewer, to read them twice."""
        names = "".join(f", {GROUPS[group]} AS by_{group}" for group in groups)
        numbers = ", ".join(str(number) for number in range(1, len(groups) + 3))
        return _COUNTED.format(names=names, rows=self.rows(*groups), numbers=numbers)

    def totals(self, group: GroupBy) -> str:
        """Return the sums of each group over the whole window: by key of their own rows, else of `counted`."""
        if group is not GroupBy.KEY:
            return _TOTALS.format(group=f"r.by_{group}", rows="counted r", sums=SUMS)
        if self.window.grain is not Grain.MINUTE and self._is_of_whole_keys:
            return _SUMMED.format(rows=self._of_keys)
        return _TOTALS.format(group=GROUPS[group], rows=self.rows(group), sums=SUMS)

    @property
    def _is_of_whole_keys(self) -> bool:
        """Whether the rows by key alone know enough: of outcomes they know those that are VALID."""
        filters = self.question.filters
        return filters.keys().isdisjoint(_OF_CALLS) and self._outcomes in (None, {Code.VALID})

    @property
    def _of_keys(self) -> str:
        columns = {name: values for name, values in self._columns.items() if name != "code"}
        rows = self._filled(OF_KEYS, _KEYS_AT_PLACES, (), columns)
        return rows if self._outcomes is None else _VALID.format(rows=rows)

    @property
    def _outcomes(self) -> set[str] | None:
        chosen = self.question.filters.get(GroupBy.OUTCOME)
        return None if chosen is None else set(chosen)

    def _filled(
        self, rows: str, places: str, groups: Collection[GroupBy], columns: Columns | None = None
    ) -> str:
        narrow, _ = narrowed(self._columns if columns is None else columns)
        question = self.question
        is_placed = question.project_ids is not None or bool(_PLACES & {*groups, *question.filters})
        return rows.format(narrow=narrow + (places if is_placed else ""))

    @property
    def _columns(self) -> Columns:
        columns: Columns = {column: self.question.filters.get(group) for group, column in _COLUMNS.items()}
        own, chosen = self.question.organization_id, columns["organization_id"]
        if own is not None:
            columns["organization_id"] = [own] if chosen is None or own in chosen else []
        return columns


def _listed(values: Collection[str] | None) -> list[str] | None:
    return None if values is None else list(values)
