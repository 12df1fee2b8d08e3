"""The forms that edit a key in place, one for each part of it: what was typed, as changes for the service."""

from datetime import datetime
from typing import Any

from django import forms

from keys.callers import Caller
from keys.forms.fields import (
    MEMBER,
    NOBODY,
    OWNERS,
    TEAM,
    DependentForm,
    ExpiryMixin,
    LimitMixin,
    LinesField,
    NameField,
    OwnerMixin,
    TagsField,
)
from keys.models import ApiKey, OwnerType, Scope
from keys.pages import offers
from keys.pages.offers import KEEP, Group, Place
from keys.policy import ABSENT
from keys.secret import Kind
from keys.services import Changes


class EditForm(DependentForm):
    """A part of a key. `title` names it; `changes` says what is to become of it."""

    title = ""

    def __init__(self, *args: Any, key: ApiKey, caller: Caller, **options: Any) -> None:
        super().__init__(*args, **{**options, "initial": self.begin(key)})
        self.key, self.caller = key, caller

    def begin(self, key: ApiKey) -> dict[str, Any]:
        """Return what the form shows at first."""
        raise NotImplementedError

    def changes(self, now: datetime) -> Changes:
        """Return what was asked for; of a valid form only."""
        raise NotImplementedError


class DetailsForm(OwnerMixin, EditForm):
    title = "Name, owner and tags"

    name = NameField(help_text="2 to 63 lower-case letters, digits and hyphens.")
    description = forms.CharField(
        label="Description", required=False, max_length=1_000, widget=forms.Textarea({"rows": 3})
    )
    tags = TagsField(label="Tags", help_text="One name=value a line, such as team=noc.")

    def __init__(self, *args: Any, key: ApiKey, caller: Caller, **options: Any) -> None:
        super().__init__(*args, key=key, caller=caller, **options)
        if caller.member is not None:
            self.offer_owners(caller.member, offers.owners(caller.member, [key.project]))
        if self.initial["owner"] == NOBODY:
            self.select("owner").choices = [(NOBODY, "Nobody"), *OWNERS]

    def begin(self, key: ApiKey) -> dict[str, Any]:
        mine = MEMBER if key.owner_type == OwnerType.MEMBER else TEAM
        return {
            "name": key.name,
            "description": key.description,
            "tags": key.tags,
            "owner": mine if key.owner_user_id or key.owner_team else NOBODY,
            "owner_member": key.owner_user_id,
            "owner_team": key.owner_team,
        }

    def changes(self, now: datetime) -> Changes:  # noqa: ARG002 - the forms share one signature
        cleaned = self.cleaned_data
        return Changes(
            name=cleaned["name"],
            description=cleaned["description"],
            tags=cleaned["tags"],
            owner=self.chosen_owner(),
        )


class ScopesForm(EditForm):
    title = "Scopes"

    scopes = forms.MultipleChoiceField(
        label="Scopes",
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "A key has at least one scope. To stop it, revoke it."},
    )

    def __init__(self, *args: Any, key: ApiKey, caller: Caller, **options: Any) -> None:
        super().__init__(*args, key=key, caller=caller, **options)
        names = {*Scope.objects.values_list("name", flat=True), *key.scopes}
        self.select("scopes").choices = [(name, name) for name in sorted(names)]

    def begin(self, key: ApiKey) -> dict[str, Any]:
        return {"scopes": key.scopes}

    def groups(self) -> list[Group]:
        """Return the scopes to choose from."""
        place = Place(
            project=self.key.project, kind=Kind(self.key.kind), carried=self.key.scopes, is_live=True
        )
        return offers.scope_groups(self.caller, place, self["scopes"].value() or ())

    def changes(self, now: datetime) -> Changes:  # noqa: ARG002 - the forms share one signature
        return Changes(scopes=self.cleaned_data["scopes"])


class LimitsForm(ExpiryMixin, LimitMixin, EditForm):
    title = "Expiry, addresses and rate limit"

    allowed_ips = LinesField(
        label="Addresses it may be used from",
        help_text="One range a line, such as 203.0.113.0/24. Empty means any address.",
    )

    def __init__(self, *args: Any, key: ApiKey, caller: Caller, **options: Any) -> None:
        super().__init__(*args, key=key, caller=caller, **options)
        rule = offers.expiry_rule(key.organization_id, Kind(key.kind))
        field = self.select("expires")
        field.choices = [
            (KEEP, "As it is"),
            *[choice for choice in offers.expiries(rule) if choice[0] != "default"],
        ]
        field.help_text = "Of the newest secret, counted from now."
        self.offer_limits(caller, key.organization_id, key.limit)

    def begin(self, key: ApiKey) -> dict[str, Any]:
        return {"allowed_ips": key.allowed_ips, "expires": KEEP, **self.begin_limit(key.limit)}

    def changes(self, now: datetime) -> Changes:
        networks = self.cleaned_data["allowed_ips"]
        return Changes(
            expires=self.requested(now),
            allowed_ips=ABSENT if networks == self.key.allowed_ips else networks,
            rate_limit=self.chosen_limit() if self.cleaned_data["rate_limit"] else ABSENT,
        )


class RotationForm(EditForm):
    title = "Rotation"

    rotation_interval_days = forms.IntegerField(
        label="Rotation interval in days",
        required=False,
        help_text="How often you mean to rotate it. With an interval, each rotation starts its lifetime anew.",
    )
    auto_rotate = forms.BooleanField(
        label="Rotate it automatically",
        required=False,
    )
    may_rotate_itself = forms.BooleanField(
        label="The key may rotate itself",
        required=False,
        help_text="Whoever holds its newest secret can ask for the next one over the API.",
    )

    def __init__(self, *args: Any, key: ApiKey, caller: Caller, **options: Any) -> None:
        super().__init__(*args, key=key, caller=caller, **options)
        self.fields["auto_rotate"].help_text = offers.auto_rotation(key.organization_id)

    def begin(self, key: ApiKey) -> dict[str, Any]:
        return {
            "rotation_interval_days": key.rotation_interval_days,
            "auto_rotate": key.auto_rotate,
            "may_rotate_itself": key.may_rotate_itself,
        }

    def changes(self, now: datetime) -> Changes:  # noqa: ARG002 - the forms share one signature
        return Changes(
            rotation_interval_days=self.cleaned_data["rotation_interval_days"],
            auto_rotate=self.cleaned_data["auto_rotate"],
            may_rotate_itself=self.cleaned_data["may_rotate_itself"],
        )
