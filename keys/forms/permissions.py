"""The form that drops unused scopes: exactly those that the page showed."""

from typing import Any, Final

from django import forms

from keys.models import ApiKey

WINDOWS: Final = (30, 90)


class DropForm(forms.Form):
    days = forms.TypedChoiceField(choices=[(days, days) for days in WINDOWS], coerce=int)
    scopes = forms.MultipleChoiceField()

    def __init__(self, *args: Any, key: ApiKey, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["scopes"].choices = [(scope, scope) for scope in key.scopes]  # type: ignore[attr-defined]
