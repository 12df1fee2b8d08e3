"""The forms that stop a key: for good, or for a while."""

from datetime import datetime, timedelta
from typing import Any, Final

from django import forms

from keys.models import ApiKey
from keys.models.key import RevocationReason

TEST_MINUTES: Final = 15


class RevokeForm(forms.Form):
    reason = forms.ChoiceField(
        label="Reason",
        choices=RevocationReason.choices,
        widget=forms.RadioSelect,
        error_messages={"required": "Choose a reason."},
    )
    note = forms.CharField(
        label="Note",
        required=False,
        max_length=1_000,
        widget=forms.Textarea({"rows": 3}),
        help_text="For those who read the security log. No secrets.",
    )
    confirmation = forms.CharField(label="Name of the key", required=False, max_length=63)

    def __init__(self, *args: Any, key: ApiKey, is_busy: bool, **options: Any) -> None:
        super().__init__(*args, **options)
        self.key = key
        if is_busy:
            self.fields["confirmation"].required = True
            self.fields[
                "confirmation"
            ].help_text = f"It was used within the last hour. Type {key.name} to go on."
        else:
            del self.fields["confirmation"]

    def clean_confirmation(self) -> str:
        typed = str(self.cleaned_data["confirmation"])
        if typed != self.key.name:
            raise forms.ValidationError("This is not the name of the key.")
        return typed


class DisableForm(forms.Form):
    """`minutes` empty means without end."""

    minutes = forms.TypedChoiceField(
        choices=[("", ""), (str(TEST_MINUTES), "")], coerce=int, empty_value=None, required=False
    )

    def until(self, now: datetime) -> datetime | None:
        """Return when the key comes back by itself; None for not."""
        minutes = self.cleaned_data["minutes"]
        return None if minutes is None else now + timedelta(minutes=minutes)
