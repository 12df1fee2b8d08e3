"""The form with which an owner erases somebody. It validates and never saves."""

from typing import Any, Final

from django import forms

MOST_WORDS: Final = 200
TYPED: Final = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}


class EraseForm(forms.Form):
    """Whose data, what of it, and the name typed again. Without `confirmation` it only asks how much there is."""

    who = forms.CharField(
        label="Person",
        max_length=254,
        widget=forms.TextInput(attrs=TYPED),
        help_text="Their e-mail address, or their id (usr_…) as the security log has it.",
    )
    with_notes = forms.BooleanField(
        required=False,
        label="Also the notes, reasons and descriptions that they wrote",
        help_text="Keep them where you have to be able to explain a decision. The names that they gave to keys "
        "and other things stay: entries are never changed.",
    )
    reason = forms.CharField(
        required=False,
        max_length=MOST_WORDS,
        label="Why",
        help_text="Such as the number of a ticket. Kept, sealed.",
    )
    confirmation = forms.CharField(required=False, max_length=254, widget=forms.TextInput(attrs=TYPED))

    def confirm(self, label: str) -> bool:
        """Tell whether the person's name was typed again; a wrong one is an error, none is a question."""
        typed: Any = self.cleaned_data["confirmation"].strip().lower()
        if typed and typed != label:
            self.add_error("confirmation", "That is not what stands above.")
        return bool(typed) and typed == label
