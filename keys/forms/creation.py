"""The form of a new key: what was typed, as a draft for the service."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from django import forms
from django.http import QueryDict

from keys import governance
from keys.callers import Caller
from keys.errors import Invalid
from keys.forms.fields import (
    ME,
    MEMBER,
    TEAM,
    ExpiryMixin,
    LimitMixin,
    LinesField,
    NameField,
    OwnerMixin,
    TagsField,
    TokenMixin,
)
from keys.models import ApiKey, Scope
from keys.pages import blast, effective, offers
from keys.pages.blast import Summary
from keys.pages.limit_words import INHERIT, OWN
from keys.pages.offers import Group, Place
from keys.pages.words import KIND_NAMES
from keys.policy import suggest_name
from keys.policy.fields import MAX_NAME
from keys.secret import Kind
from keys.services import Draft
from orgs import access as orgs_access
from orgs.members import Member
from orgs.models import Environment, Project

# How the mark of what a form offers ends where a rule asks for its box of approvals.
BOUND: Final = ":bound"


class CreationForm(TokenMixin, OwnerMixin, ExpiryMixin, LimitMixin):
    kind = forms.ChoiceField(label="Kind", choices=list(KIND_NAMES.items()), widget=forms.RadioSelect)
    environment = forms.ChoiceField(label="Environment", widget=forms.RadioSelect)
    project = forms.ChoiceField(label="Project", help_text="The key serves this project and all below it.")
    name = NameField(required=False)
    description = forms.CharField(
        label="Description",
        required=False,
        max_length=1_000,
        widget=forms.Textarea({"rows": 2}),
        help_text="What it is for, and where it is kept.",
    )
    scopes = forms.MultipleChoiceField(
        label="Scopes",
        widget=forms.CheckboxSelectMultiple,
        help_text="Only what this key needs. You can widen it later.",
        error_messages={"required": "Choose at least one scope."},
    )
    allowed_ips = LinesField(
        label="Addresses it may be used from",
        help_text="One range a line, such as 203.0.113.0/24. Empty means any address.",
    )
    tags = TagsField(label="Tags", help_text="One name=value a line, such as team=noc.")
    rotation_interval_days = forms.IntegerField(
        label="Rotation interval in days",
        required=False,
        help_text="How often you mean to rotate it. With an interval, each rotation starts its lifetime anew.",
    )
    auto_rotate = forms.BooleanField(
        label="Rotate it automatically",
        required=False,
    )
    approval_bound = forms.BooleanField(
        label="It needs an approval for all but reading",
        required=False,
        help_text="Of service keys, and for good: each call for a scope that changes something is then refused, "
        "unless somebody other than whoever asks has granted it.",
    )
    may_rotate_itself = forms.BooleanField(
        label="The key may rotate itself",
        required=False,
        initial=True,
        help_text="Whoever holds its newest secret can ask for the next one over the API.",
    )

    def __init__(
        self, *args: Any, caller: Caller, projects: Sequence[Project], is_live: bool = False, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        member = _member(caller)
        self.caller, self.is_live = caller, is_live
        self.projects = {project.id: project for project in projects}
        self.environments = {place.id: place for place in orgs_access.environments(member)}
        self.offer_owners(member, offers.owners(member, projects))
        self.offer_limits(caller, member.organization_id)
        self.fields["auto_rotate"].help_text = offers.auto_rotation(member.organization_id)
        self.approvals = offers.approval_rule(member.organization_id)
        box = self.fields["approval_bound"]
        box.help_text = f"{box.help_text} {offers.binding(self.approvals)}".strip()
        self._offer_places(member)
        self.select("scopes").choices = [
            (name, name) for name in Scope.objects.values_list("name", flat=True)
        ]
        self.select("expires").choices = offers.expiries(
            offers.expiry_rule(member.organization_id, self.chosen_kind) if self.chosen_kind else None
        )

    def _offer_places(self, member: Member) -> None:
        self.select("project").choices = [
            (project.id, f"{'\N{NO-BREAK SPACE}' * 4 * project.depth}{project.name}")
            for project in self.projects.values()
        ]
        self.select("environment").choices = [(e.id, e.name) for e in self.environments.values()]
        is_offered = member.project is not None and member.project.id in self.projects
        self.fields["project"].initial = member.project.id if is_offered and member.project else None

    @property
    def chosen_kind(self) -> Kind | None:
        """The kind that is ticked, valid or not the rest."""
        value = self["kind"].value()
        return Kind(value) if value in tuple(Kind) else None

    @property
    def chosen_project(self) -> Project:
        """The project that is chosen, else the first."""
        chosen = self.projects.get(str(self["project"].value()))
        return chosen or next(iter(self.projects.values()))

    @property
    def chosen_environment(self) -> Environment | None:
        """The environment that is ticked."""
        return self.environments.get(str(self["environment"].value()))

    @property
    def suggested_name(self) -> str:
        """What the key will be called if nobody names it."""
        environment = self.chosen_environment
        return suggest_name(self.chosen_project.name, environment.slug if environment else "environment")

    @property
    def offered_for(self) -> str:
        """What the shown scopes, times of expiry and box of approvals depend on."""
        bound = BOUND if self.must_be_bound else ""
        return f"{self.chosen_kind or ''}:{self.chosen_project.id}:{self.is_live}{bound}"

    @property
    def must_be_bound(self) -> bool:
        """Whether the organization's rule asks for approvals of this key, as far as it is chosen.

        Without scripts the box is there before a kind is, and counts for service keys alone.
        """
        kind = self.chosen_kind or (None if self.is_live else Kind.SERVICE)
        place = self.chosen_environment
        is_production = place is not None and place.is_production
        return kind is not None and governance.must_be_bound(
            kind, self.approvals, is_production=is_production
        )

    def follow_rule(self, offered_for: str = "") -> None:
        """Tick the box of approvals on a form that is only looked at, where the rule did not ask for it before.

        Where it no longer does, the tick goes: binding is for good, and perhaps nobody meant it. In between it is the
        person's. `offered_for` is that of the form that they saw.
        """
        if self.must_be_bound != offered_for.endswith(BOUND):
            self.initial["approval_bound"] = self.must_be_bound

    def scope_groups(self) -> list[Group]:
        """Return the scopes to choose from, for the kind and the project that are chosen."""
        place = Place(project=self.chosen_project, kind=self.chosen_kind, is_live=self.is_live)
        return offers.scope_groups(self.caller, place, self["scopes"].value() or ())

    def apply_preset(self, name: str) -> None:
        """Tick what a preset picks, on a form that is only looked at; without a kind nothing can be picked."""
        with suppress(Invalid):
            if self.chosen_kind is not None:
                self.initial["scopes"] = offers.preset_scopes(
                    name, self.caller, self.chosen_project, self.chosen_kind
                )

    def summary(self) -> Summary:
        """Return what the key could do as far as the form is filled in, its errors aside."""
        owner = self.chosen_owner()
        narrowing = effective.narrowing_of(self.chosen_project, owner.member)
        chosen = [name for name in self["scopes"].value() or () if name in narrowing.catalogue]
        return Summary(
            radius=blast.radius(chosen, self.chosen_kind, narrowing),
            project=self.chosen_project,
            environment=self.chosen_environment,
            networks=LinesField().clean(str(self["allowed_ips"].value() or "")),
            owner=str(owner.member or owner.team),
            expiry=self.expiry_words,
            limit=self.limit_words,
            is_bound=bool(self["approval_bound"].value()) and self.chosen_kind is Kind.SERVICE,
        )

    @property
    def expiry_words(self) -> str:
        """What the chosen expiry is called."""
        value = self["expires"].value() or offers.DEFAULT
        if value == offers.CUSTOM:
            return f"After {self['expires_on'].value() or 'the date that you choose'}"
        return next((option.choice_label for option in self["expires"] if option.data["value"] == value), "")

    @property
    def limit_words(self) -> str:
        """What the chosen rate limit is called."""
        value = self["rate_limit"].value() or INHERIT
        if value == OWN:
            how_much, window = self["limit_requests"].value(), self["limit_window"].value()
            return f"{how_much} in any {window} seconds" if how_much and window else "Its own"
        return next(
            (option.choice_label for option in self["rate_limit"] if option.data["value"] == value), ""
        )

    def draft(self, now: datetime) -> Draft:
        """Return the key as it was asked for; of a valid form only."""
        cleaned = self.cleaned_data
        return Draft(
            kind=Kind(cleaned["kind"]),
            name=cleaned["name"] or self.suggested_name,
            project=self.projects[cleaned["project"]],
            environment=self.environments[cleaned["environment"]],
            scopes=cleaned["scopes"],
            owner=self.chosen_owner(),
            description=cleaned["description"],
            tags=cleaned["tags"],
            allowed_ips=cleaned["allowed_ips"] or None,
            expires=self.requested(now),
            rate_limit=self.chosen_limit(),
            rotation_interval_days=cleaned["rotation_interval_days"],
            auto_rotate=cleaned["auto_rotate"],
            may_rotate_itself=cleaned["may_rotate_itself"],
            # The box is gone where another kind was chosen after it was ticked.
            approval_bound=cleaned["approval_bound"] and cleaned["kind"] == Kind.SERVICE,
        )


def typed(data: QueryDict) -> dict[str, Any]:
    """Return what a form was sent with as the start of another, which shows it and complains of nothing."""
    return {
        name: data.getlist(name)
        if name == "scopes"
        else name in data
        if name in {"approval_bound", "auto_rotate", "may_rotate_itself"}
        else data.get(name)
        for name in CreationForm.base_fields
    }


def like(key: ApiKey, member: Member) -> dict[str, Any]:
    """Return the start of a form for a key that takes another's place: all of it but the secret and the expiry."""
    owner = {"owner": TEAM, "owner_team": key.owner_team} if key.owner_team else {}
    if key.owner_user_id is not None:
        is_own = key.owner_user_id == member.id
        owner = {"owner": ME} if is_own else {"owner": MEMBER, "owner_member": key.owner_user_id}
    return {
        "kind": key.kind,
        "environment": key.environment_id,
        "project": key.project_id,
        "name": _free_name(key),
        "description": key.description,
        "scopes": list(key.scopes),
        "allowed_ips": list(key.allowed_ips),
        "tags": dict(key.tags),
        "rotation_interval_days": key.rotation_interval_days,
        "may_rotate_itself": key.may_rotate_itself,
        "approval_bound": key.approval_bound,
        **owner,
        **LimitMixin.begin_limit(key.limit),
    }


def _free_name(key: ApiKey) -> str:
    """Return the key's own name where it is free again, else the next one; who is faster may take that, too."""
    taken = set(
        ApiKey.objects.filter(
            environment_id=key.environment_id,
            name__startswith=key.name[: MAX_NAME - 3],
            ended_at__isnull=True,
        ).values_list("name", flat=True)
    )
    names = (key.name, *(f"{key.name[: MAX_NAME - 3]}-{number}" for number in range(2, 100)))
    return next((name for name in names if name not in taken), "")


def _member(caller: Caller) -> Member:
    if caller.member is None:
        raise TypeError("forms are for people")
    return caller.member
