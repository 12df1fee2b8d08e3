"""The form of an organization's rules for its keys."""

from typing import Any

from django import forms
from django.forms.models import model_to_dict

from keys.models import KeyPolicy
from keys.models.leak import LeakAction
from keys.models.policy import LeaverAction
from keys.services import PolicyChange


def _days(label: str) -> forms.IntegerField:
    return forms.IntegerField(label=label, min_value=1, max_value=365, widget=forms.NumberInput({"size": 4}))


class PolicyForm(forms.Form):
    ingestion_default_days = _days("Default, days")
    ingestion_max_days = _days("At most, days")
    ingestion_may_never_expire = forms.BooleanField(
        label="Ingestion keys may never expire",
        required=False,
        help_text="For devices in the field that nobody can reach.",
    )
    control_plane_default_days = _days("Default, days")
    control_plane_max_days = _days("At most, days")
    service_default_days = _days("Default, days")
    service_max_days = _days("At most, days")
    requires_ips_in_production = forms.BooleanField(
        label="Production keys need address ranges",
        required=False,
        help_text="A key that is made for production, or changed, must say from where it may be used.",
    )
    self_rotation_max_days = forms.IntegerField(
        label="A person must rotate a key after, in days",
        min_value=1,
        max_value=365,
        help_text="Until then, a key that may rotate itself can go on alone.",
    )
    staged_cut_off_at_deadline = forms.BooleanField(
        label="A staged rotation cuts the old secret off at its deadline",
        required=False,
        help_text="Else what has not moved by then is reported as overdue, and nothing is cut off.",
    )
    leaver_action = forms.ChoiceField(
        label="When a member leaves", choices=LeaverAction.choices, widget=forms.RadioSelect
    )
    leaver_team = forms.CharField(label="Team that takes them over", required=False, max_length=100)

    leak_action = forms.ChoiceField(
        label="A key whose secret was found in public",
        choices=LeakAction.choices,
        widget=forms.RadioSelect,
        help_text="Within the minute in which it is reported, with an incident and a notice to owners and admins.",
    )

    def __init__(self, *args: Any, policy: KeyPolicy, **options: Any) -> None:
        super().__init__(*args, **{**options, "initial": model_to_dict(policy)})

    def change(self) -> PolicyChange:
        """Return the policy as it was asked for; of a valid form only."""
        return PolicyChange(**self.cleaned_data)
