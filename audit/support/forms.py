"""The support console's forms: why, for how long, and what is searched."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from django import forms
from django.urls import reverse

from audit import redaction
from audit.acts import named
from audit.forms import ACTIONS
from audit.models.support import REASON_MAX, REASON_MIN

TYPED: Final = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
MINUTES: Final = [(15, "15 minutes"), (60, "1 hour"), (240, "4 hours")]


class ReasonForm(forms.Form):
    """Why support looks, in words that the customer reads, and for how long."""

    reason = forms.CharField(
        min_length=REASON_MIN,
        max_length=REASON_MAX,
        label="Reason",
        help_text="With the number of the case. Customers read it in their own security logs.",
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "placeholder": "Case 4711: a key stopped working"}
        ),
    )
    minutes = forms.TypedChoiceField(
        label="For how long",
        choices=MINUTES,
        coerce=int,
        initial=60,
        widget=forms.RadioSelect,
    )

    def clean_reason(self) -> str:
        """Return the words in one line; refuse secrets, which the ledger would keep for good."""
        reason = " ".join(str(self.cleaned_data["reason"]).split())
        if len(reason) < REASON_MIN:
            raise forms.ValidationError(f"At least {REASON_MIN} characters.")
        if redaction.holds_secret(reason):
            raise forms.ValidationError("This holds a secret. Leave it out: what is recorded stays.")
        return reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is searched for; what is empty or None narrows nothing."""

    who: str = ""
    acts: tuple[str, ...] = ()
    target: str = ""
    request_id: str = ""
    words: str = ""
    organization: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def __bool__(self) -> bool:
        return any((self.who, self.acts, self.target, self.request_id, self.words, self.organization))


class SearchForm(forms.Form):
    """Who, what, about what, where, when. All of it is optional, but time alone is no search."""

    who = forms.CharField(
        required=False,
        max_length=254,
        widget=forms.TextInput(attrs=TYPED | {"placeholder": "Name, e-mail, usr_… or key_…"}),
    )
    act = forms.ChoiceField(
        required=False,
        label="Action",
        choices=ACTIONS,
    )
    target = forms.CharField(
        required=False,
        max_length=64,
        label="What",
        widget=forms.TextInput(attrs=TYPED | {"placeholder": "key_… or another id"}),
    )
    request = forms.CharField(
        required=False,
        max_length=128,
        label="Request id",
        widget=forms.TextInput(attrs=TYPED | {"placeholder": "req_…"}),
    )
    organization = forms.CharField(
        required=False,
        max_length=100,
        widget=forms.TextInput(attrs=TYPED | {"placeholder": "Name, short name or org_…"}),
    )
    words = forms.CharField(
        required=False,
        max_length=200,
        label="Words",
        widget=forms.TextInput(attrs=TYPED | {"placeholder": "Words of the entry"}),
    )
    since = forms.DateField(
        required=False, label="From (UTC)", widget=forms.DateInput(attrs={"type": "date"})
    )
    until = forms.DateField(required=False, label="To (UTC)", widget=forms.DateInput(attrs={"type": "date"}))

    def __init__(self, data: Any) -> None:
        super().__init__(data, auto_id="search-%s", use_required_attribute=False)

    @property
    def asked(self) -> Asked:
        """What a valid form asks for."""
        cleaned = self.cleaned_data
        act: str = cleaned["act"]
        since, until = cleaned["since"], cleaned["until"]
        return Asked(
            who=cleaned["who"],
            acts=named(act) if act else (),
            target=cleaned["target"],
            request_id=cleaned["request"],
            words=cleaned["words"],
            organization=cleaned["organization"],
            since=_midnight(since) if since else None,
            # The last day that there is has no next one.
            until=_midnight(until) + timedelta(days=1) if until and until < date.max else None,
        )

    @property
    def chosen(self) -> dict[str, str]:
        """What is filled in, by parameter, as it was typed."""
        return {name: text for name in self.fields if (text := str(self.data.get(name, "")).strip())}

    def url(self, **more: str) -> str:
        """Return the address of this search, with `more`."""
        query = urlencode(self.chosen | more)
        return reverse("audit:support") + (f"?{query}" if query else "")


def _midnight(day: Any) -> datetime:
    return datetime.combine(day, time.min, UTC)
