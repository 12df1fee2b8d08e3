"""The security log's filters: what the address says, in words, and the address of every other choice."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from itertools import groupby
from typing import Any, Final
from urllib.parse import urlencode

from django import forms
from django.urls import reverse

from audit.acts import Act
from audit.models import EntryQuerySet

ANY: Final = ".*"
GROUPS: Final = {
    group: tuple(str(act) for act in acts)
    for group, acts in groupby(sorted(Act), lambda act: act.partition(".")[0])
}
SELECT: Final = {"data-autosubmit": ""}
TYPED: Final = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false", "required": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Menu:
    """One filter: its fields, what it is set to, and the address of the log without it."""

    label: str
    name: str
    value: str
    remove: str
    fields: Sequence[forms.BoundField]
    others: Sequence[tuple[str, str]]
    needs_button: bool


class LogFilter(forms.Form):
    """Who, what, about what, when, by which request. Everything is optional, and stands in the address."""

    who = forms.CharField(required=False, max_length=64, widget=forms.Select(attrs=SELECT))
    act = forms.ChoiceField(
        required=False,
        label="Action",
        choices=[
            ("", "Any action"),
            *(
                (group, [(group + ANY, f"{group}.*"), *((act, act) for act in acts)])
                for group, acts in GROUPS.items()
            ),
        ],
        widget=forms.Select(attrs=SELECT),
        error_messages={"invalid_choice": "“%(value)s” is not an action of this log."},
    )
    target = forms.CharField(
        required=False,
        max_length=64,
        widget=forms.TextInput(attrs=TYPED | {"placeholder": "key_… or another id"}),
    )
    since = forms.DateField(required=False, label="From", widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(required=False, label="To", widget=forms.DateInput(attrs={"type": "date"}))
    request = forms.CharField(
        required=False, max_length=128, widget=forms.TextInput(attrs=TYPED | {"placeholder": "req_…"})
    )

    def __init__(self, data: Any, *, actors: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(data, auto_id="filter-%s", use_required_attribute=False)
        self.names = dict(actors)
        chosen = str(data.get("who", ""))[:64]
        if chosen:
            self.names.setdefault(chosen, "")
        people = [(actor, name or actor) for actor, name in self.names.items()]
        select = self.fields["who"].widget
        assert isinstance(select, forms.Select)  # noqa: S101 - for the type checker
        select.choices = [("", "Anybody"), *sorted(people, key=lambda one: one[1].casefold())]
        for name, label in (
            ("who", "Who"),
            ("act", "Action"),
            ("target", "Id of what was changed"),
            ("request", "Request id"),
        ):
            self.fields[name].widget.attrs["aria-label"] = label

    def narrow(self, entries: EntryQuerySet) -> EntryQuerySet:
        """Narrow entries to what the filters leave: nothing while one of them can't be understood."""
        if not self.is_valid():
            return entries.none()
        cleaned = self.cleaned_data
        act: str = cleaned["act"]
        conditions = {
            "actor": cleaned["who"],
            "act__in": GROUPS[act.removesuffix(ANY)] if act.endswith(ANY) else [act] if act else None,
            "target": cleaned["target"],
            "request_id": cleaned["request"],
            "at__gte": cleaned["since"] and _midnight(cleaned["since"]),
            "at__lt": cleaned["until"] and _midnight(cleaned["until"]) + timedelta(days=1),
        }
        return entries.filter(**{name: value for name, value in conditions.items() if value})

    @property
    def chosen(self) -> dict[str, str]:
        """The filters that are set, by parameter, as they were typed."""
        return {name: text for name in self.fields if (text := str(self.data.get(name, "")).strip())}

    def url(self, *without: str, **more: str) -> str:
        """Return the address of the log with these filters, but for `without` and with `more`."""
        query = {name: text for name, text in self.chosen.items() if name not in without} | more
        return reverse("audit:log") + (f"?{urlencode(query)}" if query else "")

    def menus(self, *, with_actors: bool = True) -> list[Menu]:
        """Return the filters as the bar above the rows shows them."""
        chosen = self.chosen
        since, until = chosen.get("since", ""), chosen.get("until", "")
        period = " ".join([*([f"from {since}"] if since else []), *([f"to {until}"] if until else [])])
        who = chosen.get("who", "")
        found = [
            self._menu("Who", self.names.get(who) or who, "who"),
            self._menu("Action", chosen.get("act", ""), "act"),
            self._menu("What", chosen.get("target", ""), "target"),
            self._menu("When", period, "since", "until"),
            self._menu("Request", chosen.get("request", ""), "request"),
        ]
        return found if with_actors else found[1:]

    def _menu(self, label: str, value: str, *names: str) -> Menu:
        return Menu(
            label=label,
            name=names[0],
            value=value,
            remove=self.url(*names) if value else "",
            fields=[self[name] for name in names],
            others=[(name, text) for name, text in self.chosen.items() if name not in names],
            needs_button=names[0] not in {"who", "act"},
        )


def _midnight(day: Any) -> datetime:
    return datetime.combine(day, time.min, UTC)
