"""What is asked before many keys are changed at once."""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from django import forms

from keys.errors import Invalid
from keys.forms.fields import OwnerMixin
from keys.models.key import RevocationReason
from keys.pages.words import listed
from keys.policy import check_note, check_tags, check_team

# So many names are typed one by one; of more, their number.
MOST_TYPED: Final = 5
FOR_GOOD, FOR_A_WHILE = "", "15"


class RevokeForm(forms.Form):
    """Why the keys are revoked. Of those in use the names are typed; of many, how many they are."""

    reason = forms.ChoiceField(
        label="Reason",
        choices=[
            (reason.value, reason.label)
            for reason in RevocationReason
            if reason is not RevocationReason.ROTATED_OUT
        ],
        widget=forms.RadioSelect,
        initial=RevocationReason.UNUSED.value,
    )
    note = forms.CharField(
        label="Note",
        required=False,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Kept sealed in the security log. Never put a secret here.",
    )
    confirmation = forms.CharField(
        label="Keys in use", max_length=500, widget=forms.TextInput(attrs={"autocapitalize": "none"})
    )

    def __init__(self, *args: Any, busy: Sequence[str] = (), **options: Any) -> None:
        super().__init__(*args, **options)
        self.wanted = set(busy) if len(busy) <= MOST_TYPED else {f"{len(busy)}"}
        if not busy:
            del self.fields["confirmation"]
        elif len(busy) > MOST_TYPED:
            self.fields["confirmation"].label = "How many keys are in use"
            self.fields[
                "confirmation"
            ].help_text = (
                f"{len(busy)} of the keys were used within the last hour. Type that number to go on."
            )
        else:
            self.fields["confirmation"].label = "Name of the key" if len(busy) == 1 else "Names of the keys"
            words = f"Used within the last hour. Type {listed(busy)} to go on."
            self.fields["confirmation"].help_text = words

    def clean_confirmation(self) -> str:
        """Hold what was typed to the keys that are in use, in any order."""
        typed = str(self.cleaned_data["confirmation"])
        if {
            word for word in re.split(r"[\s,]+", typed) if word not in {"", "and"} - self.wanted
        } != self.wanted:
            raise forms.ValidationError("These are not the keys that are in use.")
        return typed

    def clean_note(self) -> str:
        """Hold the note to its bounds."""
        return _checked(check_note, self.cleaned_data["note"])


class DisableForm(forms.Form):
    """Until when the keys are disabled."""

    minutes = forms.ChoiceField(
        label="Until when",
        required=False,
        choices=[
            (FOR_GOOD, "Until somebody enables them"),
            (FOR_A_WHILE, "For 15 minutes: they come back by themselves"),
        ],
        widget=forms.RadioSelect,
        initial=FOR_GOOD,
    )


class EnableForm(forms.Form):
    """Nothing is asked but whether."""


class OwnerForm(OwnerMixin):
    """Who answers for the keys from now on."""

    def clean_owner_team(self) -> str:
        """Hold a team's name to its bounds, where a team is to own the keys."""
        name: str = self.cleaned_data["owner_team"]
        return _checked(check_team, name) if name else name


class TagForm(forms.Form):
    """One tag to add."""

    name = forms.CharField(label="Name", max_length=32, help_text="1 to 32 of a-z, 0-9, _ and -.")
    value = forms.CharField(
        label="Value",
        required=False,
        max_length=64,
        help_text="At most 64 bytes. Replaces the one they have.",
    )

    def clean(self) -> dict[str, str]:
        """Hold the tag to its bounds."""
        given: dict[str, str] = self.cleaned_data
        if "name" in given and "value" in given:
            try:
                check_tags({given["name"]: given["value"]})
            except Invalid as error:
                self.add_error("value" if "." in error.field else "name", error.detail)
        return given


def _checked(check: Callable[[str], str], text: str) -> str:
    try:
        return check(text)
    except Invalid as error:
        raise forms.ValidationError(error.detail) from None
