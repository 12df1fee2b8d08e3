"""The forms of the admin site for what organizations are given: a plan's terms, and what is agreed with one of them."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Final, cast

from django import forms
from django.http import QueryDict

from audit.admin_pages import RecordedForm
from orgs import terms
from orgs.errors import Invalid
from orgs.models import Organization, Plan
from orgs.services.differences import told, told_entitlements
from orgs.terms import Terms

AS_PLAN, OWN, NO_LIMIT = "plan", "own", "none"
_FIGURES: Final[Mapping[str, tuple[str, ...]]] = {
    terms.RATE_LIMIT: (terms.REQUESTS, terms.WINDOW),
    terms.MONTHLY_QUOTA: (terms.MONTHLY_QUOTA,),
    terms.KEY_CAP: (terms.KEY_CAP,),
}


class EntitlementsField(forms.JSONField):
    """Entitlements as a JSON object; nothing is an empty one."""

    def __init__(self, **options: Any) -> None:
        fixed = {"required": False, "widget": forms.Textarea({"rows": 8, "class": "vLargeTextField"})}
        super().__init__(**{**fixed, **options})

    def clean(self, value: Any) -> dict[str, Any]:
        found = super().clean(value)
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise forms.ValidationError('Write an object, such as {"bulk_export": true, "seats": 25}.')
        return found

    def prepare_value(self, value: Any) -> Any:
        """Show what is stored one entitlement a line; what was typed as it was typed."""
        return json.dumps(value, indent=2, ensure_ascii=False) if isinstance(value, dict) else value


class PlanForm(RecordedForm):
    """A plan with all its terms; an empty limit is none."""

    entitlements = EntitlementsField(
        help_text='By name: true, false, or a number, as in {"bulk_export": true, "seats": 25}.'
    )

    class Meta:
        model = Plan
        fields = (
            "name",
            "slug",
            "description",
            terms.REQUESTS,
            terms.WINDOW,
            terms.MONTHLY_QUOTA,
            terms.KEY_CAP,
            "entitlements",
            "usage_retention_days",
        )
        help_texts: ClassVar = {
            terms.REQUESTS: "How much each key may spend in any so many seconds. Empty: no limit. 0: nothing.",
            terms.WINDOW: f"1 to {terms.MAX_WINDOW_SECONDS:,}: 60 is a minute, 3600 an hour, 86400 a day.",
            terms.MONTHLY_QUOTA: "For the whole organization in a calendar month (UTC). Empty: no quota.",
            terms.KEY_CAP: "How many keys may be in use at a time. Empty: any number.",
            "usage_retention_days": "For how long each call is kept; sums are kept longer.",
        }

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["usage_retention_days"].required = False

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if cleaned.get("usage_retention_days") is None and "usage_retention_days" not in self.errors:
            cleaned["usage_retention_days"] = self.instance.usage_retention_days
        try:
            terms.check_terms(self.terms(cleaned))
            terms.check_retention(cleaned.get("usage_retention_days", 1))
        except Invalid as refused:
            for error in refused.errors:
                self.add_error(error.field, error.detail)
        return cleaned

    def terms(self, cleaned: Mapping[str, Any]) -> Terms:
        """Return the terms that the form asks for; a field with an error asks for nothing."""
        limit = (cleaned.get(terms.REQUESTS), cleaned.get(terms.WINDOW))
        has_errors = {terms.REQUESTS, terms.WINDOW} & set(self.errors)
        return Terms(
            rate_limit=None if has_errors else terms.whole_limit(*limit),
            monthly_quota=cleaned.get(terms.MONTHLY_QUOTA),
            key_cap=cleaned.get(terms.KEY_CAP),
            entitlements=cleaned.get("entitlements", {}),
        )

    def wanted(self) -> dict[str, Any]:
        """Return what the services take."""
        kept = ("name", "description", "usage_retention_days")
        return {name: self.cleaned_data[name] for name in kept} | {"terms": self.terms(self.cleaned_data)}


class OverridesForm(forms.Form):
    """What is agreed with one organization: for each term the plan's, its own, or no limit."""

    rate_limit = forms.ChoiceField(label="Rate limit of each key")
    rate_limit_requests = forms.IntegerField(label="Its own: how much", required=False)
    rate_limit_window_seconds = forms.IntegerField(label="In any so many seconds", required=False)
    monthly_quota_is = forms.ChoiceField(label="Monthly quota")
    monthly_quota = forms.IntegerField(label="Its own quota", required=False)
    key_cap_is = forms.ChoiceField(label="Keys in use")
    key_cap = forms.IntegerField(label="Its own number of keys", required=False)
    entitlements = EntitlementsField(
        help_text='Beside the plan\'s, or instead: {"seats": 50} gives more seats, {"sso": null} takes sso away.'
    )

    def __init__(self, posted: QueryDict | None, organization: Organization) -> None:
        super().__init__(posted, initial=_initial(organization.overrides))
        plan = told(organization.plan.terms)
        for name in _FIGURES:
            cast(forms.ChoiceField, self.fields[_choice(name)]).choices = [
                (AS_PLAN, f"As the plan says: {plan[name]}"),
                (OWN, "Its own"),
                (NO_LIMIT, "No limit"),
            ]
        bought = ", ".join(told_entitlements(organization.plan.entitlements)) or "none"
        self.fields["entitlements"].help_text += f" The plan's: {bought}."

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        for name, figures in _FIGURES.items():
            for figure in figures:
                if cleaned.get(_choice(name)) != OWN:
                    self.errors.pop(figure, None)
                elif cleaned.get(figure) is None and figure not in self.errors:
                    self.add_error(figure, "Its own needs a number.")
        if not self.errors:
            self._check()
        return cleaned

    def _check(self) -> None:
        try:
            terms.check_overrides(self.wanted())
        except Invalid as refused:
            for error in refused.errors:
                self.add_error(error.field or None, error.detail)

    def wanted(self) -> dict[str, Any]:
        """Return the overrides, as `Organization.overrides` stores them."""
        found = {name: self._own(name) for name in _FIGURES if self.cleaned_data[_choice(name)] != AS_PLAN}
        entitlements = self.cleaned_data["entitlements"]
        return found | ({terms.ENTITLEMENTS: entitlements} if entitlements else {})

    def _own(self, name: str) -> Any:
        if self.cleaned_data[_choice(name)] == NO_LIMIT:
            return None
        if name == terms.RATE_LIMIT:
            return {
                "requests": self.cleaned_data[terms.REQUESTS],
                "window_seconds": self.cleaned_data[terms.WINDOW],
            }
        return self.cleaned_data[name]


def _choice(name: str) -> str:
    """Return the field that says whether a term is the plan's, one's own, or lifted."""
    return name if name == terms.RATE_LIMIT else f"{name}_is"


def _initial(own: Mapping[str, Any]) -> dict[str, Any]:
    limit = own.get(terms.RATE_LIMIT) or {}
    choices = {
        _choice(name): AS_PLAN if name not in own else NO_LIMIT if own[name] is None else OWN
        for name in _FIGURES
    }
    return choices | {
        terms.REQUESTS: limit.get("requests"),
        terms.WINDOW: limit.get("window_seconds"),
        terms.MONTHLY_QUOTA: own.get(terms.MONTHLY_QUOTA),
        terms.KEY_CAP: own.get(terms.KEY_CAP),
        "entitlements": own.get(terms.ENTITLEMENTS, {}),
    }
