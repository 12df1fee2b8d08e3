"""The form of an organization's rules for its keys."""

from typing import Any, Final

from django import forms
from django.forms.models import model_to_dict

from keys import governance
from keys.models import KeyPolicy
from keys.models.leak import LeakAction
from keys.models.policy import APPROVALS_REQUIRED, LeaverAction
from keys.rotation import MAX_GRACE_SECONDS
from keys.services import PolicyChange

HOUR: Final = 3_600
GRACES: Final = ("auto_grace", "leaver_grace")
LONGEST_NUMBER: Final = 4


def _days(label: str) -> forms.IntegerField:
    return forms.IntegerField(label=label, min_value=1, max_value=365, widget=forms.NumberInput({"size": 4}))


def _hours(label: str, help_text: str) -> forms.IntegerField:
    return forms.IntegerField(
        label=label,
        min_value=1,
        max_value=MAX_GRACE_SECONDS // HOUR,
        widget=forms.NumberInput({"size": 4}),
        help_text=help_text,
    )


class NumbersField(forms.CharField):
    """Whole numbers between commas or spaces."""

    def clean(self, value: Any) -> list[int]:
        words = str(super().clean(value)).replace(",", " ").split()
        if not all(word.isascii() and word.isdecimal() and len(word) <= LONGEST_NUMBER for word in words):
            raise forms.ValidationError("Whole numbers, such as 30, 7, 1.")
        return [int(word) for word in words]

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list) else value


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
    notice_days = NumbersField(
        label="Notices, days before",
        max_length=40,
        help_text="1 to 5 numbers, such as 30, 7, 1. Each is given once for each expiry: in the security log, by "
        "e-mail, and to your webhooks.",
    )
    auto_grace_hours = _hours(
        "After an automatic rotation the old secret works on for, hours",
        "A key rotates so long before its interval is over, or before it expires; at most half of that time.",
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
    leaver_grace_hours = _hours(
        "Their secrets work on for, hours", "So long whoever uses these keys has to change to the new secret."
    )
    leaver_team = forms.CharField(label="Team that takes them over", required=False, max_length=100)

    leak_action = forms.ChoiceField(
        label="A key whose secret was found in public",
        choices=LeakAction.choices,
        widget=forms.RadioSelect,
        help_text="At once when it is reported, with an incident and a mail to owners and admins.",
    )
    approvals_required = forms.ChoiceField(
        label="New service keys must be bound to approvals",
        choices=APPROVALS_REQUIRED,
        widget=forms.RadioSelect,
        help_text="By itself such a key only reads: each call that changes something needs somebody else's approval.",
    )
    approval_max_hours = forms.IntegerField(
        label="An approval is valid for at most, hours",
        min_value=1,
        max_value=governance.MAX_HOURS,
        widget=forms.NumberInput({"size": 4}),
        help_text=f"1 to {governance.MAX_HOURS}, from when it is asked for.",
    )
    approval_max_uses = forms.IntegerField(
        label="An approval lets through at most, calls",
        min_value=1,
        max_value=governance.MAX_USES,
        widget=forms.NumberInput({"size": 4}),
        help_text=f"1 to {governance.MAX_USES}.",
    )

    def __init__(self, *args: Any, policy: KeyPolicy, **options: Any) -> None:
        hours = {f"{name}_hours": getattr(policy, f"{name}_seconds") // HOUR for name in GRACES}
        super().__init__(*args, **{**options, "initial": model_to_dict(policy) | hours})

    def change(self) -> PolicyChange:
        """Return the policy as it was asked for; of a valid form only."""
        cleaned = dict(self.cleaned_data)
        seconds = {f"{name}_seconds": cleaned.pop(f"{name}_hours") * HOUR for name in GRACES}
        return PolicyChange(**cleaned, **seconds)
