"""The forms of the settings pages. They validate and never save."""

import re
import unicodedata
from collections.abc import Iterable
from typing import Any, cast

from django import forms
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator

from audit.redaction import holds_secret
from orgs.errors import OrgsError
from orgs.models import Environment, Project, User
from orgs.models.organization import SLUG
from orgs.roles import Role

# The form of a scope (spec KEYS §3); what a scope means is the business of `keys`.
SCOPE = re.compile(r"[a-z][a-z0-9_-]{0,31}:[a-z*][a-z0-9_*-]{0,31}")
MAX_SCOPES = 64
# They turn the text around them, so that one name reads like another.
BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
ROLE_WORDS = {
    Role.OWNER: "Owner: everything, other owners and closing the organization included",
    Role.ADMIN: "Admin: everything but owners",
    Role.DEVELOPER: "Developer: makes and changes keys",
    Role.AUDITOR: "Auditor: reads keys and the whole security log",
    Role.VIEWER: "Viewer: sees keys and usage",
}


def refuse(form: forms.Form, error: OrgsError) -> None:
    """Show what a service refused, at the field it names where the form has that."""
    form.add_error(error.field if error.field in form.fields else None, error.detail)


def _offer(form: forms.Form, name: str, choices: list[tuple[str, str]]) -> None:
    cast(forms.ChoiceField, form.fields[name]).choices = choices


def plain_text(value: str) -> None:
    """Refuse characters that can't be seen and change how the rest is read, and a secret pasted where it is kept."""
    if holds_secret(value):
        raise ValidationError("This looks like a secret. It was not kept; don't store it here.")
    if any(unicodedata.category(char) == "Cc" or char in BIDI_CONTROLS for char in value):
        raise ValidationError("This holds characters that can't be seen.")


class NameField(forms.CharField):
    """What people read: at most 100 characters on one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=100, validators=[plain_text], **options)


class SlugField(forms.CharField):
    """A short name for addresses and commands."""

    def __init__(self, **options: Any) -> None:
        rule = RegexValidator(SLUG, "Lower-case letters, digits and hyphens, not a hyphen first.")
        widget = forms.TextInput(attrs={"autocapitalize": "none", "spellcheck": "false", "class": "mono"})
        super().__init__(max_length=63, validators=[rule], widget=widget, **options)


class OrganizationForm(forms.Form):
    name = NameField()
    slug = SlugField(label="Short name", help_text="For sign-in addresses and support. Lower case.")


class InvitationForm(forms.Form):
    email = forms.EmailField(
        label="E-mail address",
        max_length=254,
        help_text="Only somebody with this address can use the link.",
        validators=[plain_text],
    )
    role = forms.ChoiceField(widget=forms.RadioSelect)
    project = forms.ChoiceField(
        required=False, label="Where", help_text="A role holds for what lies below, too."
    )

    def __init__(self, *args: Any, roles: Iterable[Role], projects: Iterable[Project], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _offer(self, "role", [(each.value, ROLE_WORDS[each]) for each in roles])
        self.projects = {each.id: each for each in projects}
        paths = [(project.id, project.label_path) for project in self.projects.values()]
        _offer(self, "project", [("", "The whole organization"), *paths])

    def clean_email(self) -> str:
        email: str = self.cleaned_data["email"]
        return email.lower()

    def clean_role(self) -> Role:
        return Role(self.cleaned_data["role"])

    def clean_project(self) -> Project | None:
        return self.projects.get(self.cleaned_data["project"])


class RoleForm(forms.Form):
    role = forms.ChoiceField(widget=forms.RadioSelect)

    def __init__(self, *args: Any, roles: Iterable[Role], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _offer(self, "role", [(each.value, ROLE_WORDS[each]) for each in roles])

    def clean_role(self) -> Role:
        return Role(self.cleaned_data["role"])


class RemovalForm(forms.Form):
    entirely = forms.BooleanField(
        required=False, label="End every role of this person in the organization", initial=True
    )


class ProjectForm(forms.Form):
    name = NameField()


class ScopesForm(forms.Form):
    """What counts in a project: all, or a list."""

    narrows = forms.ChoiceField(
        label="What keys may do here and below",
        choices=(("", "Whatever they were given"), ("listed", "Only what is on this list")),
        widget=forms.RadioSelect,
        required=False,
    )
    scopes = forms.CharField(
        required=False,
        label="Scopes",
        help_text="One a line, such as orders:read or orders:*. A key keeps what is also here.",
        widget=forms.Textarea(
            attrs={"rows": 8, "class": "mono", "spellcheck": "false", "autocapitalize": "none"}
        ),
        max_length=6000,
    )

    def clean_scopes(self) -> list[str]:
        scopes = self.cleaned_data["scopes"].split()
        if wrong := [scope for scope in scopes if SCOPE.fullmatch(scope) is None]:
            raise ValidationError(
                f"A scope is written resource:action, in lower case. Look at number {scopes.index(wrong[0]) + 1}."
            )
        if len(set(scopes)) > MAX_SCOPES:
            raise ValidationError(f"At most {MAX_SCOPES} scopes.")
        return sorted(set(scopes))

    def wanted(self) -> list[str] | None:
        """Return the list to narrow to, or None to narrow nothing."""
        return self.cleaned_data["scopes"] if self.cleaned_data["narrows"] else None


class EnvironmentForm(forms.Form):
    name = NameField()
    slug = SlugField(
        label="Short name", help_text="Such as staging or eu-production. It can't be changed later."
    )
    mode = forms.ChoiceField(
        choices=((Environment.Mode.LIVE, "Live"), (Environment.Mode.TEST, "Test")),
        widget=forms.RadioSelect,
        help_text="Every secret says which it is, so this is fixed for ever.",
        initial=Environment.Mode.LIVE,
    )
    is_production = forms.BooleanField(
        required=False,
        label="This is production",
        help_text="Marked in its own colour, and the policies for production hold. Live only; fixed for ever.",
    )

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if values.get("is_production") and values.get("mode") == Environment.Mode.TEST:
            self.add_error("is_production", "Production is always live.")
        return values


class EnvironmentNameForm(forms.Form):
    name = NameField()


class JoinForm(forms.Form):
    """The account of somebody who was invited and has none."""

    name = NameField(label="Your name", widget=forms.TextInput(attrs={"autocomplete": "name"}))
    password = forms.CharField(
        max_length=256,
        strip=False,
        help_text="At least 12 characters. A few words in a row are good.",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def __init__(self, *args: Any, email: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.email = email

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if "password" in values:
            try:
                validate_password(values["password"], User(email=self.email, name=values.get("name", "")))
            except ValidationError as error:
                self.add_error("password", error)
        return values
