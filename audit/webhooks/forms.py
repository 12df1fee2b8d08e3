"""The forms of the webhooks' pages. They validate and never save."""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any, Final

from django import forms
from django.utils import timezone

from audit import describe
from audit.acts import ANY, GROUPS
from audit.errors import WebhookError
from audit.services.webhooks import MOST_DESCRIPTION
from audit.webhooks import address, patterns

TYPED: Final = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
MOMENT: Final = {"type": "datetime-local", "step": "1"}
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{32,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One box to tick: a pattern."""

    name: str
    words: str
    checked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The acts of one subject, with all of them first."""

    label: str
    choices: Sequence[Choice]


class WebhookForm(forms.Form):
    """Where to, and what about. `token` lets a form be obeyed once."""

    url = forms.CharField(
        label="URL",
        max_length=address.MOST,
        widget=forms.URLInput(
            attrs=TYPED | {"placeholder": "https://hooks.example.com/keystead", "class": "mono"}
        ),
        help_text="https, with a valid certificate. It answers 2xx within 15 seconds.",
    )
    description = forms.CharField(
        required=False, max_length=MOST_DESCRIPTION, help_text="Whose it is, or what it does with the events."
    )
    acts = forms.MultipleChoiceField(
        label="Events",
        choices=[(pattern, pattern) for pattern in sorted(patterns.KNOWN)],
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one kind of event."},
    )
    token = forms.CharField(required=False, widget=forms.HiddenInput)

    def clean_token(self) -> str:
        """Refuse a form that lost its token, which would be obeyed twice."""
        token: str = self.cleaned_data["token"]
        if self.is_bound and _TOKEN.fullmatch(token) is None:
            raise forms.ValidationError("This form is incomplete. Load the page again.")
        return token

    @property
    def everything(self) -> Choice:
        """The box for every act."""
        return self._choice(patterns.EVERYTHING, "Every event, and those that are added later")

    @property
    def groups(self) -> list[Group]:
        """The other boxes, by subject."""
        return [
            Group(
                label=label[0].upper() + label[1:],
                choices=[
                    self._choice(subject + ANY, f"Every {label} event, and those that are added later"),
                    *(self._choice(act, describe.happened(act)) for act in acts),
                ],
            )
            for subject, acts in GROUPS.items()
            for label in ("SSO" if subject == "sso" else subject,)
        ]

    def _choice(self, name: str, words: str) -> Choice:
        return Choice(name=name, words=words, checked=name in (self["acts"].value() or ()))


class RotateForm(forms.Form):
    """The version of the secret that is rotated: a second sending finds another."""

    version = forms.IntegerField(min_value=1, widget=forms.HiddenInput)


class ResendForm(forms.Form):
    """From when to when, in UTC."""

    since = forms.DateTimeField(
        label="From", widget=forms.DateTimeInput(attrs=MOMENT, format="%Y-%m-%dT%H:%M:%S")
    )
    until = forms.DateTimeField(
        label="To", widget=forms.DateTimeInput(attrs=MOMENT, format="%Y-%m-%dT%H:%M:%S")
    )

    def __init__(self, data: Any = None) -> None:
        now = timezone.now().astimezone(UTC)
        super().__init__(data, initial={"since": now - timedelta(days=1), "until": now})
        for field in self.fields.values():
            field.help_text = "UTC"


def refuse(form: forms.Form, error: WebhookError) -> None:
    """Show what a service refused, at the field it names where the form has that."""
    name = error.field.partition("[")[0]
    form.add_error(name if name in form.fields else None, error.detail)


def new_token() -> str:
    """Return the token of a fresh form; it lets nobody do anything, so it is not secret."""
    return secrets.token_urlsafe(32)
