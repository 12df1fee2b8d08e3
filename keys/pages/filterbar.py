"""The filter bar of the Keys page: what is filtered, in words, and the address of every other choice."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from keys.forms.listing import ANY, EXPIRIES, HEALTH, IDLENESS, STATUSES, Listing
from keys.pages.words import KIND_NAMES
from orgs.models import Environment, Project, User

LABELS: Final = {
    "q": "Search",
    "status": "Status",
    "environment": "Environment",
    "kind": "Kind",
    "project": "Project",
    "owner": "Owner",
    "scope": "Scope",
    "tags": "Tag",
    "expires": "Expires",
    "unused": "Unused",
    "health": "Health",
}
# More than this and the environments get a menu of their own instead of a segment each.
MOST_SEGMENTS: Final = 5
SORTS: Final = (
    ("-last_used_at", "Last used"),
    ("expires_at", "Soonest expiry"),
    ("name", "Name"),
    ("-created_at", "Newest"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One choice: what it says and where it leads."""

    label: str
    url: str
    is_current: bool = False
    is_production: bool = False
    depth: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One filter that narrows the list, and the address of the list without it."""

    name: str
    label: str
    value: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Menu:
    """A filter's choices. While it narrows the list, `value` says to what, and `remove` leads to the list without it.

    Where `ask` is set, something can be typed too: it is the label of the field, `parameter` its name.
    """

    name: str
    label: str
    options: Sequence[Option] = ()
    value: str = ""
    remove: str = ""
    ask: str = ""
    parameter: str = ""
    others: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A heading that sorts: where it leads, and how its column is sorted now; `aria` is "" where it is not."""

    name: str
    label: str
    url: str
    aria: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What there is to choose from, as far as the person sees it."""

    person: User
    environments: Sequence[Environment]
    projects: Sequence[Project]
    people: Sequence[User]
    scopes: Sequence[str]


@dataclass(frozen=True, slots=True)
class Bar:
    """The bar of one view of the list."""

    listing: Listing
    choices: Choices

    @property
    def environments(self) -> list[Option]:
        """The segments, “All” last; none where there is nothing to choose, or too much."""
        known = self.choices.environments
        if not 1 < len(known) <= MOST_SEGMENTS:
            return []
        return [
            *(self._environment(environment) for environment in known),
            Option(
                label="All",
                url=self.listing.without("environment").url(),
                is_current=not self.listing.environment,
            ),
        ]

    @property
    def chips(self) -> list[Chip]:
        """The active filters that no menu shows: the search, each tag, an environment that is no more."""
        shown = {menu.name for menu in self.menus} - {"tags"}
        if any(option.is_current for option in self.environments):
            shown.add("environment")
        return [chip for chip in active(self.listing, self.choices) if chip.name not in shown]

    @property
    def menus(self) -> list[Menu]:
        """The filters that have a menu, whether they narrow the list now or not."""
        return [menu for menu in self._menus() if menu.options or menu.ask]

    @property
    def sorts(self) -> list[Option]:
        """The orders to choose from."""
        return [
            Option(label=label, url=self.listing.but(sort=sort).url(), is_current=self.listing.sort == sort)
            for sort, label in SORTS
        ]

    @property
    def order(self) -> str:
        """The order of this view, in words."""
        words = dict(SORTS) | {
            "last_used_at": "Longest unused",
            "-expires_at": "Latest expiry",
            "-name": "Name, Z first",
            "created_at": "Oldest",
        }
        return words[self.listing.sort]

    @property
    def columns(self) -> dict[str, Column]:
        """The headings that sort, by what they sort by."""
        return {
            sort.lstrip("-"): self._column(sort, label)
            for sort, label in (("name", "Name"), ("-last_used_at", "Last used"), ("expires_at", "Expires"))
        }

    def _column(self, sort: str, label: str) -> Column:
        opposite = sort.removeprefix("-") if sort.startswith("-") else f"-{sort}"
        is_current = self.listing.sort in {sort, opposite}
        wanted = opposite if self.listing.sort == sort else sort
        falls = self.listing.sort.startswith("-")
        aria = ("descending" if falls else "ascending") if is_current else ""
        return Column(name=sort.lstrip("-"), label=label, url=self.listing.but(sort=wanted).url(), aria=aria)

    def _menus(self) -> Iterable[Menu]:
        places = self.choices.environments
        if len(places) > MOST_SEGMENTS:
            yield self._menu("environment", [(place.slug, place.name) for place in places])
        yield self._menu("status", [(value, words) for value, words in STATUSES.items() if value != ANY])
        yield self._menu("kind", list(KIND_NAMES.items()))
        yield self._menu("owner", self._owners(), ask="Team")
        if len(self.choices.projects) > 1:
            yield self._menu("project", [(project.id, project.name) for project in self.choices.projects])
        yield self._menu("scope", [(name, name) for name in self.choices.scopes], ask="Scope")
        yield self._menu("tags", [], ask="Tag, as name=value", parameter="tag")
        yield self._menu("expires", list(EXPIRIES.items()))
        yield self._menu("unused", list(IDLENESS.items()))
        yield self._menu("health", list(HEALTH.items()))

    def _menu(
        self, name: str, choices: Sequence[tuple[str, str]], *, ask: str = "", parameter: str = ""
    ) -> Menu:
        is_tags = name == "tags"
        chosen = "" if is_tags else getattr(self.listing, name)
        is_active = bool(chosen) and not (name == "status" and chosen == ANY)
        return Menu(
            name=name,
            label=LABELS[name],
            options=[
                self._option(name, value, label, is_current=value == chosen) for value, label in choices
            ],
            value=_words(name, chosen, self.choices) if is_active else "",
            remove=self.listing.without(name).url() if is_active else "",
            ask=ask,
            parameter=parameter or name,
            others=(self.listing.but() if is_tags else self.listing.but(**{name: ""})).query(),
        )

    def _option(self, name: str, value: str, label: str, *, is_current: bool) -> Option:
        return Option(
            label=label,
            url=self.listing.but(**{name: value}).url(),
            is_current=is_current,
            depth=self._depths.get(value, 0) if name == "project" else 0,
        )

    @property
    def _depths(self) -> dict[str, int]:
        """How far each project lies below the topmost that is shown."""
        depths = {project.id: project.depth for project in self.choices.projects}
        top = min(depths.values(), default=0)
        return {project_id: min(depth - top, 8) for project_id, depth in depths.items()}

    def _owners(self) -> list[tuple[str, str]]:
        me = self.choices.person
        return [
            (me.id, "Me"),
            *((person.id, str(person)) for person in self.choices.people if person.id != me.id),
        ]

    def _environment(self, place: Environment) -> Option:
        return Option(
            label=place.name,
            url=self.listing.but(environment=place.slug).url(),
            is_current=self.listing.environment == place.slug,
            is_production=place.is_production,
        )


def active(listing: Listing, choices: Choices) -> list[Chip]:
    """Return each filter that narrows the list, in words."""
    return [
        Chip(
            name=name,
            label=LABELS[name],
            value=_words(name, value, choices),
            url=listing.without(name, value).url(),
        )
        for name, value in listing.active()
    ]


def _words(name: str, value: str, choices: Choices) -> str:
    named: dict[str, dict[str, str]] = {
        "status": {key: words.lower() for key, words in STATUSES.items()},
        "kind": dict(KIND_NAMES),
        "environment": {environment.slug: environment.name for environment in choices.environments},
        "project": {project.id: project.name for project in choices.projects},
        "owner": {person.id: str(person) for person in (*choices.people, choices.person)},
        "tags": {value: value.replace(":", "=", 1)},
        "expires": {key: words.lower() for key, words in EXPIRIES.items()},
        "unused": {key: words.lower() for key, words in IDLENESS.items()},
        "health": {key: words.lower() for key, words in HEALTH.items()},
    }
    return named.get(name, {}).get(value, value)
