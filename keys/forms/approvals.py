"""The forms of approvals: asking for one, deciding on one, finding them, and the trail of an incident."""

import json
from collections.abc import Sequence
from typing import Any, Final

from django import forms

from keys import catalogue, governance, parameters, secret
from keys.errors import Invalid
from keys.governance import ApprovalRule, ApprovalState, Step
from keys.models import ApiKey
from keys.policy import ABSENT
from keys.services import ApprovalDraft

HOUR: Final = 3_600
VALIDITIES: Final = (
    ("900", "15 minutes"),
    ("3600", "1 hour"),
    ("14400", "4 hours"),
    ("86400", "24 hours"),
)
MAX_TEXT: Final = 20_000


def validities(rule: ApprovalRule) -> list[tuple[str, str]]:
    """Return how long an approval may be asked for, the organization's longest last."""
    longest = str(rule.max_hours * HOUR)
    offered = [(seconds, label) for seconds, label in VALIDITIES if int(seconds) <= int(longest)]
    return offered if longest in dict(offered) else [*offered, (longest, f"{rule.max_hours} hours")]


class StepsField(forms.CharField):
    """One step per line: its name, then the digest of what it does."""

    def clean(self, value: Any) -> list[Step]:
        steps = []
        for number, line in enumerate(str(super().clean(value)).splitlines(), start=1):
            name, _, digest = line.strip().rpartition(" ")
            if not line.strip():
                continue
            if not name.strip():
                raise forms.ValidationError(f"Line {number}: write a name, a space, and a SHA-256.")
            steps.append(Step(name.strip(), digest))
        return steps


class ApprovalForm(forms.Form):
    key = forms.ChoiceField(label="Key", help_text="A service key that is bound to approvals.")
    scope = forms.ChoiceField(label="Scope", help_text="What it will be allowed to do.")
    resource = forms.CharField(
        label="Resource", required=False, max_length=128, help_text="What it acts on, such as db-7."
    )
    parameters = forms.CharField(
        label="Parameters",
        required=False,
        max_length=MAX_TEXT,
        widget=forms.Textarea({"rows": 5, "spellcheck": "false"}),
        help_text="As JSON. Whoever decides sees them; the service compares their digest with what it is about to do.",
    )
    parameters_digest = forms.CharField(
        label="Digest of the parameters",
        required=False,
        max_length=64,
        help_text="SHA-256 of their canonical JSON (RFC 8785), if they themselves are not to be stored here.",
    )
    steps = StepsField(
        label="Plan",
        required=False,
        max_length=MAX_TEXT,
        widget=forms.Textarea({"rows": 4, "spellcheck": "false"}),
        help_text="One step per line: name, space, SHA-256 of what it does. What was done is compared with it.",
    )
    reason = forms.CharField(
        label="Reason",
        max_length=1_000,
        widget=forms.Textarea({"rows": 3}),
        help_text="For whoever decides. No secrets.",
    )
    incident = forms.CharField(label="Incident", required=False, max_length=128)
    valid = forms.ChoiceField(label="Valid for", initial="3600")
    uses = forms.IntegerField(label="Uses", initial=1, min_value=1, max_value=governance.MAX_USES)

    def __init__(self, *args: Any, keys: Sequence[ApiKey], rule: ApprovalRule, **options: Any) -> None:
        super().__init__(*args, **options)
        self.keys = {key.id: key for key in keys}
        risks = catalogue.risks(catalogue.load())
        held = {scope for key in keys for scope in governance.governed(key.scopes, risks)}
        # To ask needs no approval.
        scopes = sorted(held - {governance.ASKING})
        for name, choices in (
            ("key", [(key.id, f"{key.name} ({key.environment.name})") for key in keys]),
            ("scope", [(scope, scope) for scope in scopes]),
            ("valid", validities(rule)),
        ):
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)  # noqa: S101 - for the type checker
            field.choices = choices
        # A page that is older than the rule may still offer more.
        self.fields["valid"].error_messages["invalid_choice"] = rule.validity_words
        self.fields["uses"].widget.attrs["max"] = rule.max_uses
        self.fields["uses"].help_text = f"How many calls it lets through, {rule.max_uses} at most."

    def clean_parameters(self) -> Any:
        text = str(self.cleaned_data["parameters"]).strip()
        if not text:
            return ABSENT
        try:
            return parameters.parse(text)
        except Invalid as error:
            raise forms.ValidationError(error.detail) from None

    def draft(self) -> ApprovalDraft:
        """Return what is asked for; of a valid form only."""
        cleaned = self.cleaned_data
        return ApprovalDraft(
            key=self.keys[cleaned["key"]],
            scope=cleaned["scope"],
            reason=cleaned["reason"],
            resource=cleaned["resource"],
            parameters=cleaned["parameters"],
            parameters_digest=cleaned["parameters_digest"].lower() or None,
            steps=cleaned["steps"],
            incident=cleaned["incident"],
            valid=int(cleaned["valid"]),
            uses=cleaned["uses"],
        )


class DecisionForm(forms.Form):
    note = forms.CharField(
        label="Note",
        required=False,
        max_length=1_000,
        widget=forms.Textarea({"rows": 3}),
        help_text="For whoever asked, and for the security log. No secrets.",
    )


class ApprovalFilter(forms.Form):
    """What the address of the list says; what it can't mean is left out."""

    status = forms.ChoiceField(required=False, choices=[(str(state), "") for state in ApprovalState])
    key = forms.RegexField(r"\Akey_[a-z2-7]{20}\Z", required=False)
    incident = forms.CharField(required=False, max_length=128)
    before = forms.RegexField(r"\Aapr_[a-z2-7]{20}\Z", required=False)

    @property
    def chosen(self) -> dict[str, str]:
        """The filters that are set."""
        self.is_valid()
        return {name: str(value) for name, value in self.cleaned_data.items() if value}


class TrailForm(forms.Form):
    incident = forms.CharField(label="Incident", required=False, max_length=128)
    request_id = forms.CharField(label="Request id", required=False, max_length=128)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("incident") and cleaned.get("request_id"):
            raise forms.ValidationError("Either an incident or a request id.")
        return cleaned

    @property
    def holds_secret(self) -> bool:
        """Whether somebody pasted a secret into the address."""
        text = json.dumps([self.data.get(name, "") for name in self.fields])
        return secret.redact(text) != text
