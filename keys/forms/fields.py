"""Fields that several forms of keys share: what people type, as values; the services judge them."""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django import forms

from keys.callers import Caller
from keys.errors import Invalid
from keys.once import new_token
from keys.pages.limit_words import INHERIT, NAMED, OWN, choices
from keys.pages.offers import CUSTOM, DEFAULT, KEEP, NEVER, PRESET_DAYS
from keys.policy import ABSENT, Given, Requested, TierLimit, TierName, check_name
from keys.services import Owner
from orgs.members import Member
from orgs.models import User
from orgs.terms import MAX_REQUESTS, MAX_WINDOW_SECONDS, RateLimit

ME, MEMBER, TEAM, NOBODY = "me", "member", "team", "nobody"
OWNERS = [(ME, "Me"), (MEMBER, "A member"), (TEAM, "A team")]
_EXPIRIES = frozenset({DEFAULT, NEVER, CUSTOM, KEEP, *map(str, PRESET_DAYS)})


class LinesField(forms.CharField):
    """One item a line (or between commas and spaces): a list of texts."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            **{"required": False, "max_length": 8_000, "widget": forms.Textarea({"rows": 3}), **options}
        )

    def clean(self, value: Any) -> list[str]:
        return str(super().clean(value)).replace(",", " ").split()

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value


class TagsField(forms.CharField):
    """One `name=value` a line: a mapping."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            **{"required": False, "max_length": 8_000, "widget": forms.Textarea({"rows": 3}), **options}
        )

    def clean(self, value: Any) -> dict[str, str]:
        tags: dict[str, str] = {}
        for number, line in enumerate(str(super().clean(value)).splitlines(), start=1):
            name, equals, text = (part.strip() for part in line.partition("="))
            if not line.strip():
                continue
            if not equals:
                raise forms.ValidationError(f"Line {number}: write name=value.")
            if name in tags:
                raise forms.ValidationError(f"Line {number}: this tag is there already.")
            tags[name] = text
        return tags

    def prepare_value(self, value: Any) -> Any:
        return (
            "\n".join(f"{name}={text}" for name, text in value.items()) if isinstance(value, dict) else value
        )


class NameField(forms.CharField):
    """The name of a key, judged here already, so that its error comes with those of the other fields."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"label": "Name", "max_length": 63, **options})

    def clean(self, value: Any) -> str:
        name = str(super().clean(value))
        try:
            return check_name(name) if name else ""
        except Invalid as error:
            raise forms.ValidationError(error.detail) from None


class ExpiryField(forms.ChoiceField):
    """When the key stops. Every choice is valid whatever is shown: the policy of the kind judges it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"widget": forms.RadioSelect, "initial": DEFAULT, "required": False, **options})

    def valid_value(self, value: Any) -> bool:
        return value in _EXPIRIES


class DependentForm(forms.Form):
    """A form in which one choice makes another field necessary."""

    def demand(self, name: str, complaint: str, *, is_needed: bool) -> None:
        """Complain where a field that is needed is empty, and nothing was said about it yet."""
        if is_needed and not self.cleaned_data.get(name) and name not in self.errors:
            self.add_error(name, complaint)

    def select(self, name: str) -> forms.ChoiceField:
        """Return a field as the choice that it is."""
        field = self.fields[name]
        if not isinstance(field, forms.ChoiceField):
            raise TypeError(f"{name} is no choice")
        return field


class ExpiryMixin(DependentForm):
    """`expires` and, for “On a date”, `expires_on`: the last day of use, to its end in UTC."""

    expires = ExpiryField(label="Expiry")
    expires_on = forms.DateField(
        label="Last day of use",
        required=False,
        widget=forms.DateInput({"type": "date"}, format="%Y-%m-%d"),
        help_text="It stops when this day ends, at midnight UTC.",
    )

    def clean_expires(self) -> str:
        return str(self.cleaned_data.get("expires") or DEFAULT)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        self.demand("expires_on", "Choose the date.", is_needed=cleaned.get("expires") == CUSTOM)
        return cleaned

    def requested(self, now: datetime) -> Requested:
        """Return the time that was asked for, in the services' terms."""
        match self.cleaned_data.get("expires"):
            case "never":
                return None
            case "custom":
                last_day = self.cleaned_data["expires_on"]
                return datetime.combine(last_day, time.min, tzinfo=UTC) + timedelta(days=1)
            case "default" | "keep" | None:
                return ABSENT
            case count:
                return now + timedelta(days=int(count))


class OwnerMixin(DependentForm):
    """Who answers for the key: the person, another member, or a team by its name."""

    owner = forms.ChoiceField(
        label="Owner",
        choices=OWNERS,
        widget=forms.RadioSelect,
        initial=ME,
        help_text="Who answers for the key. A member's key may never do more than the member's role.",
    )
    owner_member = forms.ChoiceField(label="Member", required=False)
    owner_team = forms.CharField(label="Team", required=False, max_length=100)

    def offer_owners(self, member: Member, people: Sequence[User]) -> None:
        """Fill in the members to choose from."""
        self.member = member
        self.people = {user.id: user for user in people}
        self.select("owner_member").choices = [
            ("", "Choose…"),
            *[(user.id, f"{user.name} · {user.email}" if user.name else user.email) for user in people],
        ]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        self.demand("owner_member", "Choose the member.", is_needed=cleaned.get("owner") == MEMBER)
        self.demand("owner_team", "Name the team.", is_needed=cleaned.get("owner") == TEAM)
        return cleaned

    def chosen_owner(self) -> Owner:
        """Return the owner in the services' terms; nobody where the choice is incomplete."""
        match self["owner"].value():
            case "team":
                return Owner(team=str(self["owner_team"].value() or "").strip())
            case "nobody":
                return Owner()
            case "member":
                return Owner(member=self.people.get(str(self["owner_member"].value())))
            case _:
                return Owner(member=self.member.user)


class LimitMixin(DependentForm):
    """The plan's rate limit, a tier's, or one of the key's own: so much in any so many seconds."""

    rate_limit = forms.ChoiceField(
        label="Rate limit", widget=forms.RadioSelect, initial=INHERIT, required=False
    )
    limit_requests = forms.IntegerField(label="At most", required=False, min_value=0, max_value=MAX_REQUESTS)
    limit_window = forms.IntegerField(
        label="Window in seconds",
        required=False,
        min_value=1,
        max_value=MAX_WINDOW_SECONDS,
        initial=60,
    )

    def offer_limits(self, caller: Caller, organization_id: str, held: Given = None) -> None:
        """Fill in the limits to choose from; `held` is what the key has been given already."""
        tier = held.slug if isinstance(held, TierLimit) else None
        self.select("rate_limit").choices = choices(caller, organization_id, tier)

    @staticmethod
    def begin_limit(held: Given) -> dict[str, Any]:
        """Return what the fields show at first of what a key has been given."""
        match held:
            case TierLimit():
                return {"rate_limit": f"{NAMED}{held.slug}"}
            case RateLimit():
                return {
                    "rate_limit": OWN,
                    "limit_requests": held.requests,
                    "limit_window": held.window_seconds,
                }
            case _:
                return {"rate_limit": INHERIT}

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        for name in ("limit_requests", "limit_window"):
            if cleaned.get("rate_limit") != OWN:
                # Out of sight and of no consequence, whatever was typed there.
                self.errors.pop(name, None)
            elif cleaned.get(name) is None and name not in self.errors:
                self.add_error(name, "A limit of its own needs both figures.")
        return cleaned

    def chosen_limit(self) -> RateLimit | TierName | None:
        """Return the limit in the services' terms; of a valid form only."""
        chosen = self.cleaned_data["rate_limit"]
        if chosen == OWN:
            return RateLimit(self.cleaned_data["limit_requests"], self.cleaned_data["limit_window"])
        return TierName(chosen.removeprefix(NAMED)) if chosen.startswith(NAMED) else None


class TokenMixin(forms.Form):
    """The one-time token of a form that mints a secret (`keys.once`)."""

    token = forms.CharField(widget=forms.HiddenInput, required=False, max_length=64, initial=new_token)
