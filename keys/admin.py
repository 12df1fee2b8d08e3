"""The scope catalogue and the keys in the admin site: scopes change through services, keys are only shown."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar, override

from django import forms
from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html_join

from audit.admin_pages import AnyModelForm, ReadOnlyAdmin, RecordedAdmin, RecordedForm
from keys import services
from keys.errors import Invalid, KeysError
from keys.models import ApiKey, KeySecret, Scope, Tier
from keys.pages import limit_words
from keys.scopes import validate
from keys.secret import Kind
from keys.services.tiers import check_tier
from orgs.admin import actor
from orgs.roles import Risk


class ScopeForm(RecordedForm):
    """A scope of the catalogue."""

    kinds = forms.MultipleChoiceField(
        choices=[(kind.value, kind.value) for kind in Kind], widget=forms.CheckboxSelectMultiple
    )

    class Meta:
        model = Scope
        fields = ("name", "description", "kinds", "risk", "is_deprecated")

    def clean_name(self) -> str:
        """Return the name where it is a scope by form."""
        try:
            return validate(self.cleaned_data["name"])
        except KeysError as refused:
            raise forms.ValidationError(refused.detail) from refused


@admin.register(Scope)
class ScopeAdmin(RecordedAdmin):
    form = ScopeForm
    refusals = (KeysError,)
    list_display = ("name", "description", "risk", "kinds", "is_deprecated", "is_builtin")
    list_filter = ("risk", "is_deprecated", "is_builtin")
    search_fields = ("name", "description")
    fields = ("name", "description", "kinds", "risk", "is_deprecated")

    @override
    def get_readonly_fields(self, request: HttpRequest, obj: Scope | None = None) -> tuple[str, ...]:
        return () if obj is None else ("name",)

    @override
    def has_change_permission(self, request: HttpRequest, obj: Scope | None = None) -> bool:
        """Keep the scopes of our own API as they are: what they allow is written in the code."""
        return super().has_change_permission(request, obj) and not (obj and obj.is_builtin)

    @override
    def create_through_service(self, request: HttpRequest, form: AnyModelForm) -> Model:
        return services.create_scope(form.cleaned_data["name"], _draft(form), actor=actor(request))

    @override
    def change_through_service(self, request: HttpRequest, stored: Scope, form: AnyModelForm) -> None:
        services.change_scope(stored, _draft(form), actor=actor(request))


def _draft(form: AnyModelForm) -> services.ScopeDraft:
    chosen = form.cleaned_data
    return services.ScopeDraft(
        description=chosen["description"],
        risk=Risk(chosen["risk"]),
        kinds=[Kind(kind) for kind in chosen["kinds"]],
        is_deprecated=chosen["is_deprecated"],
    )


class TierForm(RecordedForm):
    """A named limit; an empty quota is none."""

    class Meta:
        model = Tier
        fields = ("name", "slug", "description", "requests", "window_seconds", "monthly_quota")
        help_texts: ClassVar = {
            "slug": "Requests of the API name it. It stays as it is.",
            "requests": "How much each key of this tier may spend in any so many seconds. 0: nothing.",
            "window_seconds": "60 is a minute, 3600 an hour, 86400 a day.",
            "monthly_quota": "For each key in a calendar month (UTC). Empty: no quota.",
        }

    def clean(self) -> dict[str, Any]:
        """Say what is out of bounds at its field, before the database does."""
        cleaned = super().clean()
        if not self.errors:
            try:
                check_tier(_tier_draft(cleaned))
            except Invalid as refused:
                for error in refused.errors:
                    self.add_error(error.field, error.detail)
        return cleaned


@admin.register(Tier)
class TierAdmin(RecordedAdmin):
    form = TierForm
    refusals = (KeysError,)
    list_display = ("name", "slug", "requests", "window_seconds", "monthly_quota", "description")
    fields = TierForm.Meta.fields

    @override
    def get_readonly_fields(self, request: HttpRequest, obj: Tier | None = None) -> tuple[str, ...]:
        return () if obj is None else ("slug",)

    @override
    def create_through_service(self, request: HttpRequest, form: AnyModelForm) -> Model:
        slug = form.cleaned_data["slug"]
        return services.create_tier(slug, _tier_draft(form.cleaned_data), actor=actor(request))

    @override
    def change_through_service(self, request: HttpRequest, stored: Tier, form: AnyModelForm) -> None:
        services.change_tier(stored, _tier_draft(form.cleaned_data), actor=actor(request))


def _tier_draft(cleaned: Mapping[str, Any]) -> services.TierDraft:
    names = [field.name for field in fields(services.TierDraft)]
    return services.TierDraft(**{name: cleaned[name] for name in names})


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    list_display = ("name", "id", "organization", "environment", "kind", "state", "expires_at", "created_at")
    list_filter = ("kind", ("revoked_at", admin.EmptyFieldListFilter))
    search_fields = ("=id", "=name", "=hint", "=organization__slug")
    list_select_related = ("organization", "environment")
    show_full_result_count = False
    readonly_fields = ("state", "limit", "secrets")

    @override
    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        return (
            super()
            .get_queryset(request)
            .select_related("organization", "project", "environment", "owner_user")
        )

    @admin.display(description="state")
    def state(self, key: ApiKey) -> str:
        return key.status(timezone.now()).label

    @admin.display(description="rate limit that holds")
    def limit(self, key: ApiKey) -> str:
        return limit_words.of_key(key)

    @admin.display(description="secrets")
    def secrets(self, key: ApiKey) -> str:
        """Return each version of the secret: its hint and its times, never its digest."""
        columns = ("version", "hint", "created_at", "expires_at", "accepted_until")
        rows = KeySecret.objects.filter(key=key).values_list(*columns)
        return (
            format_html_join("", "<p>v{} · {}… · made {} · expires {} · accepted until {}</p>", rows)
            or "none"
        )
