"""The security log's filters: what the address says, in words, and the address of every other choice."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from django import forms
from django.urls import reverse
from django.utils import timezone

from audit import searching
from audit.acts import ANY, GROUPS, named
from audit.searching import Wanted

ACTIONS: Final = [
    ("", "Any action"),
    *(
        (group, [(group + ANY, f"{group}.*"), *((act, act) for act in acts)])
        for group, acts in GROUPS.items()
    ),
]
SELECT: Final = {"data-autosubmit": ""}
LAST: Final = {
    "1h": ("Last hour", timedelta(hours=1)),
    "24h": ("Last 24 hours", timedelta(days=1)),
    "7d": ("Last 7 days", timedelta(days=7)),
    "30d": ("Last 30 days", timedelta(days=30)),
}
PERIOD: Final = ("last", "since", "until")
MINUTE: Final = "%Y-%m-%dT%H:%M"
TYPED: Final = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false", "required": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Menu:
    """One filter: its fields, what it is set to, and the address of the log without it.

    `options` are further choices as (words, address, whether it is chosen).
    """

    label: str
    name: str
    value: str
    remove: str
    fields: Sequence[forms.BoundField]
    others: Sequence[tuple[str, str]]
    needs_button: bool
    options: Sequence[tuple[str, str, bool]] = ()


class MinuteField(forms.Field):
    """A day or a minute in UTC, as a browser's field for both sends it; the end of it with `is_end`."""

    def __init__(self, *, is_end: bool = False, **options: Any) -> None:
        super().__init__(
            widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format=MINUTE), **options
        )
        self.is_end = is_end

    def to_python(self, value: Any) -> datetime | None:
        """Return the first moment that is meant, or the first after it; raises `ValidationError`."""
        text = str(value or "").strip()
        if not text:
            return None
        for form, length in (("%Y-%m-%d", timedelta(days=1)), (MINUTE, timedelta(minutes=1))):
            try:
                start = datetime.strptime(text, form).replace(tzinfo=UTC)
                return start + length if self.is_end else start
            except (ValueError, OverflowError):
                continue
        raise forms.ValidationError("Enter a valid date, such as 2026-11-20 or 2026-11-20T14:00, in UTC.")


class LogFilter(forms.Form):
    """Which words, who, what, about what, when, by which request. All optional, and all in the address."""

    q = forms.CharField(
        required=False,
        label="Search",
        max_length=200,
        widget=forms.TextInput(
            attrs=TYPED
            | {
                "type": "search",
                "required": False,
                "placeholder": "Words, names, ids, IP addresses",
                "class": "input",
            }
        ),
    )
    who = forms.CharField(required=False, max_length=64, widget=forms.Select(attrs=SELECT))
    act = forms.ChoiceField(
        required=False,
        label="Action",
        choices=ACTIONS,
        widget=forms.Select(attrs=SELECT),
        error_messages={"invalid_choice": "“%(value)s” is not an action of this log."},
    )
    target = forms.CharField(
        required=False,
        max_length=64,
        widget=forms.TextInput(attrs=TYPED | {"placeholder": "key_… or another id"}),
    )
    last = forms.ChoiceField(
        required=False, choices=[("", ""), *((name, label) for name, (label, _) in LAST.items())]
    )
    since = MinuteField(required=False, label="From (UTC)")
    until = MinuteField(required=False, label="To (UTC)", is_end=True)
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
            ("q", "Search the log: words, names, ids"),
            ("who", "Who"),
            ("act", "Action"),
            ("target", "Id of what was changed"),
            ("request", "Request id"),
        ):
            self.fields[name].widget.attrs["aria-label"] = label

    def clean_q(self) -> str:
        """Refuse what has no letter and no digit: it would be looked for in vain."""
        text: str = self.cleaned_data["q"]
        if text and not searching.chunks(text)[0]:
            raise forms.ValidationError("Type a word, a name or an id: signs alone are not searched.")
        return text

    def wanted(self, *without: str) -> Wanted | None:
        """Return what the filters leave, but for those `without`; None while one of them can't be understood."""
        if not self.is_valid():
            return None
        cleaned = {name: None if name in without else value for name, value in self.cleaned_data.items()}
        act: str = cleaned["act"] or ""
        since = cleaned["since"]
        if cleaned["last"]:
            since = timezone.now() - LAST[cleaned["last"]][1]
        return Wanted(
            text=cleaned["q"] or "",
            actor=cleaned["who"] or "",
            acts=named(act) if act else (),
            target=cleaned["target"] or "",
            request_id=cleaned["request"] or "",
            since=since,
            until=cleaned["until"],
        )

    @property
    def chosen(self) -> dict[str, str]:
        """The filters that are set, by parameter, as they were typed."""
        return {name: text for name in self.fields if (text := str(self.data.get(name, "")).strip())}

    @property
    def query(self) -> str:
        """The filters that are set, as an address has them."""
        return urlencode(self.chosen)

    def url(self, *without: str, **more: str) -> str:
        """Return the address of the log with these filters, but for `without` and with `more`."""
        query = {name: text for name, text in self.chosen.items() if name not in without} | more
        return reverse("audit:log") + (f"?{urlencode(query)}" if query else "")

    def others(self) -> list[tuple[str, str]]:
        """Return the filters beside the words, which the search box carries along."""
        return [(name, text) for name, text in self.chosen.items() if name != "q"]

    def menus(self, *, with_actors: bool = True) -> list[Menu]:
        """Return the filters as the bar above the rows shows them."""
        chosen = self.chosen
        since, until = (chosen.get(name, "").replace("T", " ") for name in ("since", "until"))
        period = " ".join([*([f"from {since}"] if since else []), *([f"to {until}"] if until else [])])
        last = LAST.get(chosen.get("last", ""), ("", None))[0]
        who = chosen.get("who", "")
        found = [
            self._menu("When", last or period, *PERIOD, options=self._periods()),
            self._menu("Who", self.names.get(who) or who, "who"),
            self._menu("Action", chosen.get("act", ""), "act"),
            self._menu("What", chosen.get("target", ""), "target"),
            self._menu("Request", chosen.get("request", ""), "request"),
        ]
        return found if with_actors else [menu for menu in found if menu.name != "who"]

    def hiding(self) -> Iterator[tuple[str, str, str, Wanted]]:
        """Yield, for each filter that is set, (label, value, the address without it, what is then wanted)."""
        text = self.chosen.get("q", "")
        words = [("Search", text, self.url("q"), ("q",))] if text else []
        menus = [
            (menu.label, menu.value, menu.remove, PERIOD if menu.name == "last" else (menu.name,))
            for menu in self.menus()
        ]
        for label, value, address, names in [*words, *menus]:
            wanted = self.wanted(*names)
            if value and wanted is not None:
                yield label, value, address, wanted

    def _periods(self) -> list[tuple[str, str, bool]]:
        return [
            (label, self.url(*PERIOD, last=name), self.chosen.get("last") == name)
            for name, (label, _) in LAST.items()
        ]

    def _menu(
        self, label: str, value: str, *names: str, options: Sequence[tuple[str, str, bool]] = ()
    ) -> Menu:
        return Menu(
            label=label,
            name=names[0],
            value=value,
            remove=self.url(*names) if value else "",
            fields=[self[name] for name in names if name != "last"],
            others=[(name, text) for name, text in self.chosen.items() if name not in names],
            needs_button=names[0] not in {"who", "act"},
            options=options,
        )
