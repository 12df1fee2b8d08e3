"""The forms of break-glass: which keys, and why. A value that can't be right is an error, never left out: the filter
would then take more than was meant."""

from collections.abc import Sequence
from datetime import UTC
from typing import Any, Final

from django import forms
from django.http import QueryDict
from django.utils.http import urlencode

from keys import secret
from keys.forms.fields import TagsField
from keys.forms.listing import is_secret_like
from keys.listing import Filters
from keys.models.key import Status
from keys.pages.words import KIND_NAMES
from orgs.models import Environment, Project

MAX_QUERY: Final = 4_000
# What was typed stays, when another filter changes the page around it.
KEPT: Final = {"hx-preserve": "true"}
_ANY: Final = ("", "Any")
_STATUSES: Final = [(status.value, str(status.label)) for status in Status if status is not Status.REVOKED]
_FORMATS: Final = ("%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d")


class MomentField(forms.DateTimeField):
    """A time in UTC, as browsers send what was picked."""

    def __init__(self, label: str) -> None:
        widget = forms.DateTimeInput({"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")
        super().__init__(label=label, required=False, input_formats=_FORMATS, widget=widget)

    def to_python(self, value: Any) -> Any:
        """Read it as UTC, whatever zone the server is in."""
        found = super().to_python(value)
        return found and found.replace(tzinfo=UTC)


class FilterForm(forms.Form):
    """Which keys. All that is given must hold."""

    project = forms.ChoiceField(label="Project and below", required=False)
    environment = forms.ChoiceField(label="Environment", required=False)
    kind = forms.ChoiceField(label="Kind", choices=[_ANY, *KIND_NAMES.items()], required=False)
    owner = forms.ChoiceField(label="Owner", required=False)
    scope = forms.ChoiceField(label="Scope", required=False)
    tags = TagsField(label="Tags", widget=forms.Textarea({"rows": 1, "placeholder": "team=noc"}))
    q = forms.CharField(
        label="Name begins with",
        required=False,
        max_length=110,
        widget=forms.TextInput(
            {
                "autocomplete": "off",
                "autocapitalize": "none",
                "spellcheck": "false",
                "pattern": "(?!.*_(in|cp|sv)_(live|test)_).+",
                "title": "Anything but a secret: paste that into the search box",
            }
        ),
    )
    created_before = MomentField("Created before, UTC")
    unused_since = MomentField("Not used since, UTC")
    expires_before = MomentField("Expires before, UTC")
    status = forms.ChoiceField(label="Status", choices=[_ANY, *_STATUSES], required=False)

    def offer(
        self,
        *,
        projects: Sequence[Project],
        environments: Sequence[Environment],
        owners: Sequence[tuple[str, str]],
        scopes: Sequence[str],
    ) -> None:
        """Fill in what can be chosen; `owners` are (id or team's name, what to call it)."""
        indent = "\N{NO-BREAK SPACE}" * 4
        self._choose("project", [(one.id, f"{indent * one.depth}{one.name}") for one in projects])
        self._choose("environment", [(one.slug, one.name) for one in environments])
        self._choose("owner", owners)
        self._choose("scope", [(name, name) for name in scopes])

    def _choose(self, name: str, choices: Sequence[tuple[str, str]]) -> None:
        field = self.fields[name]
        if isinstance(field, forms.ChoiceField):
            field.choices = [_ANY, *choices]

    def clean_q(self) -> str:
        text = str(self.cleaned_data["q"]).strip()
        if not text.isprintable() or is_secret_like(text):
            raise forms.ValidationError("This is no name. Paste a secret into the search box on top instead.")
        return text

    def filters(self, organization_id: str) -> Filters:
        """Return the filter; of a valid form only."""
        given = dict(self.cleaned_data)
        tags = tuple(given.pop("tags").items())
        return Filters(organization_id=organization_id, search=given.pop("q"), tags=tags, **given)

    @property
    def text(self) -> str:
        """The filter as an address's query, without what says nothing."""
        values = [(name, self[name].value()) for name in self.fields]
        return urlencode([(name, value) for name, value in values if value])


def query_of(text: str) -> QueryDict:
    """Return the filter that a form carried along."""
    return QueryDict(text[:MAX_QUERY])


def holds_secret(given: QueryDict) -> bool:
    """Tell whether an address has what looks like a secret in it."""
    return any(
        secret.redact(text) != text or (name == "q" and is_secret_like(text))
        for name, texts in given.lists()
        for text in texts
    )


class ActForm(forms.Form):
    """Why; and who, where that was confirmed too long ago."""

    filter = forms.CharField(widget=forms.HiddenInput, max_length=MAX_QUERY, required=False)
    reason = forms.CharField(
        label="Why",
        max_length=1_000,
        widget=forms.Textarea({"rows": 2, "placeholder": "Laptop of the night shift stolen, INC-7", **KEPT}),
        help_text="It stands in the security log and on the incident's page. No secrets.",
        error_messages={"required": "Say why: whoever reads the incident asks first."},
    )
    password = forms.CharField(
        label="Your password",
        max_length=512,
        strip=False,
        widget=forms.PasswordInput({"autocomplete": "current-password", **KEPT}),
        help_text="It counts for five minutes.",
        error_messages={"required": "Confirm that it is you."},
    )

    def __init__(self, *args: Any, is_confirmed: bool, **options: Any) -> None:
        super().__init__(*args, **options)
        if is_confirmed:
            del self.fields["password"]
