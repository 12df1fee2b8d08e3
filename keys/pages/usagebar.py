"""The filter bar of the Usage page: what is filtered, in words, and the address of every other choice."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from keys.forms.usage import GROUPS, RANGE_WORDS, RANGES, View
from keys.pages import figures
from keys.pages.filterbar import MOST_SEGMENTS, Chip, Menu, Option
from keys.verdict import Code
from orgs.models import Environment, Project

RANGE_LABELS: Final[Mapping[str, str]] = {
    "1h": "1 h",
    "24h": "24 h",
    "7d": "7 d",
    "30d": "30 d",
    "90d": "90 d",
}
NOT_GIVEN: Final = "not given"
# No call of a key has these.
_KEYLESS: Final = frozenset({Code.MALFORMED, Code.NOT_FOUND})


@dataclass(frozen=True, slots=True, kw_only=True)
class Range(Option):
    """A range to choose; `words` for who does not see how short its label is."""

    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """The bar of one view. `key_name` is that of the key that it is narrowed to, if any."""

    view: View
    environments_known: Sequence[Environment]
    projects_known: Sequence[Project]
    key_name: str = ""
    menus: Sequence[Menu] = field(init=False)

    def __post_init__(self) -> None:
        """Work the menus out once: chips ask for them too."""
        object.__setattr__(self, "menus", tuple(self._menus()))

    @property
    def environments(self) -> list[Option]:
        """The segments, “All” last; none where there is nothing to choose, or too much."""
        if not 1 < len(self.environments_known) <= MOST_SEGMENTS:
            return []
        chosen = self.view.environment
        return [
            *(
                Option(
                    label=place.name,
                    url=self.view.but(environment=place.slug).url(),
                    is_current=chosen == place.slug,
                    is_production=place.is_production,
                )
                for place in self.environments_known
            ),
            Option(label="All", url=self.view.but(environment=None).url(), is_current=chosen is None),
        ]

    @property
    def chips(self) -> list[Chip]:
        """The active filters that nothing else in the bar shows."""
        shown = {menu.name for menu in self.menus if menu.value}
        if any(option.is_current for option in self.environments):
            shown.add("environment")
        return [chip for chip in self.active if chip.name not in shown]

    @property
    def active(self) -> list[Chip]:
        """Each filter that narrows the numbers, in words."""
        return [
            Chip(
                name=name,
                label=GROUPS[name],
                value=self._words(name, value),
                url=self.view.but(**{name: None}).url(),
            )
            for name, value in self.view.active()
        ]

    @property
    def groupings(self) -> list[Option]:
        """What the calls can be told apart by."""
        return [
            Option(label=label, url=self.view.but(by=name).url(), is_current=self.view.by == name)
            for name, label in GROUPS.items()
        ]

    def _menus(self) -> Iterable[Menu]:
        places, projects = self.environments_known, self.projects_known
        if len(places) > MOST_SEGMENTS:
            yield self._menu("environment", [(place.slug, place.name) for place in places])
        if len(projects) > 1:
            yield self._menu("project", [(project.id, project.name) for project in projects])
        yield self._menu(
            "outcome", [(code, words) for code, words in figures.OUTCOMES.items() if code not in _KEYLESS]
        )

    def _menu(self, name: str, choices: Sequence[tuple[str, str]]) -> Menu:
        chosen = getattr(self.view, name)
        return Menu(
            name=name,
            label=GROUPS[name],
            options=[
                Option(
                    label=label,
                    url=self.view.but(**{name: value}).url(),
                    is_current=value == chosen,
                    depth=self._depths.get(value, 0) if name == "project" else 0,
                )
                for value, label in choices
            ],
            value="" if chosen is None else self._words(name, chosen),
            remove="" if chosen is None else self.view.but(**{name: None}).url(),
        )

    @property
    def _depths(self) -> dict[str, int]:
        """How far each project lies below the topmost that is shown."""
        depths = {project.id: project.depth for project in self.projects_known}
        top = min(depths.values(), default=0)
        return {project_id: min(depth - top, 8) for project_id, depth in depths.items()}

    def _words(self, name: str, value: str) -> str:
        named: dict[str, Mapping[str, str]] = {
            "environment": {place.slug: place.name for place in self.environments_known},
            "project": {project.id: project.name for project in self.projects_known},
            "key": {value: self.key_name or value},
            "outcome": figures.OUTCOMES,
        }
        return named.get(name, {}).get(value, value) or NOT_GIVEN


def ranges(view: View, name: str = "keys:usage", *arguments: str) -> list[Range]:
    """Return the ranges that end now, as links of a page with that URL name and arguments."""
    return [
        Range(
            label=RANGE_LABELS[each],
            words=RANGE_WORDS[each].capitalize(),
            url=view.in_range(each).url(name, *arguments),
            is_current=view.since is None and view.range == each,
        )
        for each in RANGES
    ]
