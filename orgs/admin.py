"""Organizations, plans and people in the admin site: changed through services, each change told in a ledger."""

from collections.abc import Callable
from typing import Any, override

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.contrib.auth import password_validation
from django.contrib.auth.forms import SetPasswordMixin
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html

from audit.actors import Actor
from audit.admin_pages import AnyModelForm, ReadOnlyAdmin, RecordedAdmin, RecordedForm
from orgs import middleware, services
from orgs.admin_terms import OverridesForm, PlanForm
from orgs.errors import Invalid, OrgsError
from orgs.models import Membership, Organization, Plan, User
from orgs.roles import Role


def actor(request: HttpRequest) -> Actor:
    """Return the superuser as the ledgers know them."""
    return middleware.actor(request)  # type: ignore[arg-type]


class ServiceAdmin(RecordedAdmin):
    """What is changed through the services of `orgs`."""

    refusals = (OrgsError,)

    def each(
        self, request: HttpRequest, chosen: QuerySet[Any], change: Callable[..., bool], done: str
    ) -> None:
        """Apply a service to all that was chosen, in order of id; say how many it changed, and whom it refused."""
        changed = 0
        for found in chosen.order_by("pk"):
            try:
                changed += change(found, actor=actor(request))
            except OrgsError as refused:
                self.message_user(request, f"{found}: {refused.detail}", messages.ERROR)
        self.message_user(request, f"{changed} {done}.", messages.SUCCESS if changed else messages.WARNING)

    def ask(
        self, request: HttpRequest, about: Model, form: forms.Form, action: str, consequence: str
    ) -> HttpResponse:
        """Show a page with one form about one object, and what will follow from it."""
        names = f"admin:{self.opts.app_label}_{self.opts.model_name}"
        context = {
            **self.admin_site.each_context(request),
            "title": f"{action}: {about}",
            "form": form,
            "action": action,
            "consequence": consequence,
            "original": about,
            "opts": self.opts,
            "list_url": reverse(f"{names}_changelist"),
            "back_url": reverse(f"{names}_change", args=[quote(about.pk)]),
        }
        return TemplateResponse(request, "admin/single_form.html", context)


def owner_field(*, required: bool) -> "forms.ModelChoiceField[User]":
    """Return a field for the address of somebody with an account: a list of all would not end."""
    return forms.ModelChoiceField(
        User.objects.filter(is_active=True),
        required=required,
        to_field_name="email",
        widget=forms.EmailInput,
        help_text="The e-mail address of somebody with an account.",
        error_messages={"invalid_choice": "Nobody with this address may sign in."},
    )


class OwnerForm(forms.Form):
    """Who is to own an organization."""

    owner = owner_field(required=True)


class OrganizationForm(RecordedForm):
    """A tenant; its first owner only where it is made."""

    owner = owner_field(required=False)

    class Meta:
        model = Organization
        fields = ("name", "slug", "plan")


@admin.register(Organization)
class OrganizationAdmin(ServiceAdmin):
    form = OrganizationForm
    list_display = ("name", "slug", "plan", "is_operator", "suspended_at", "created_at")
    list_filter = ("plan", ("suspended_at", admin.EmptyFieldListFilter))
    search_fields = ("name", "slug", "id")
    list_select_related = ("plan",)
    readonly_fields = ("id", "is_operator", "suspended_at", "created_at", "agreed", "owners", "ledger")
    actions = ("suspend", "resume")

    @override
    def get_fields(self, request: HttpRequest, obj: Organization | None = None) -> tuple[str, ...]:
        editable = ("name", "slug", "plan")
        return (*editable, "owner") if obj is None else (*editable, *self.readonly_fields)

    @override
    def create_through_service(self, request: HttpRequest, form: AnyModelForm) -> Model:
        return services.create_organization(**form.cleaned_data, actor=actor(request))

    @override
    def change_through_service(self, request: HttpRequest, stored: Organization, form: AnyModelForm) -> None:
        wanted = {name: form.cleaned_data[name] for name in ("name", "slug", "plan")}
        services.change_organization(stored, **wanted, actor=actor(request))

    @override
    def get_urls(self) -> list[URLPattern]:
        page = self.admin_site.admin_view(self.owner_page)
        terms = self.admin_site.admin_view(self.terms_page)
        return [
            path("<str:organization_id>/owner/", page, name="orgs_organization_owner"),
            path("<str:organization_id>/terms/", terms, name="orgs_organization_terms"),
            *super().get_urls(),
        ]

    @admin.display(description="owners")
    def owners(self, organization: Organization) -> str:
        owners = organization.memberships.filter(role=Role.OWNER).select_related("user")
        named = ", ".join(sorted(owner.user.email for owner in owners)) or "none"
        url = reverse("admin:orgs_organization_owner", args=[organization.pk])
        return format_html('{} · <a href="{}">{}</a>', named, url, "Appoint an owner")

    def owner_page(self, request: HttpRequest, organization_id: str) -> HttpResponse:
        """Appoint an owner: the operator's own first one, or of an organization that has lost its last."""
        organization = self.get_object(request, organization_id)
        if organization is None:
            raise Http404
        form = OwnerForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            try:
                services.appoint_owner(organization, form.cleaned_data["owner"], actor=actor(request))
            except OrgsError as refused:
                form.add_error("owner", refused.detail)
            else:
                return redirect("admin:orgs_organization_change", quote(organization.pk))
        return self.ask(request, organization, form, "Appoint an owner", "They may do everything in it.")

    @admin.display(description="agreed beside the plan")
    def agreed(self, organization: Organization) -> str:
        names = ", ".join(sorted(organization.overrides)).replace("_", " ") or "nothing"
        url = reverse("admin:orgs_organization_terms", args=[organization.pk])
        return format_html('{} · <a href="{}">{}</a>', names, url, "Agree to other terms")

    def terms_page(self, request: HttpRequest, organization_id: str) -> HttpResponse:
        """Agree with one organization to something else than its plan says."""
        organization = self.get_object(request, organization_id)
        if organization is None:
            raise Http404
        posted = request.POST if request.method == "POST" else None
        form = OverridesForm(posted, organization)
        if not form.is_valid():
            words = "It counts from the next call on, and the organization reads of it in its security log."
            return self.ask(request, organization, form, "Agree to other terms", words)
        services.change_overrides(organization, form.wanted(), actor=actor(request))
        self.message_user(request, f"The terms of {organization} are agreed.")
        return redirect("admin:orgs_organization_change", quote(organization.pk))

    @admin.display(description="ledger")
    def ledger(self, organization: Organization) -> str:
        url = reverse("admin:ledger", args=[organization.pk])
        return format_html('<a href="{}">{}</a>', url, "Entries, newest first")

    @admin.action(description="Suspend: refuse every key of the chosen organizations")
    def suspend(self, request: HttpRequest, chosen: QuerySet[Organization]) -> None:
        self.each(request, chosen, services.suspend_organization, "suspended")

    @admin.action(description="Resume the chosen organizations")
    def resume(self, request: HttpRequest, chosen: QuerySet[Organization]) -> None:
        self.each(request, chosen, services.resume_organization, "resumed")


@admin.register(Plan)
class PlanAdmin(ServiceAdmin):
    form = PlanForm
    list_display = ("name", "slug", "rate_limit", "monthly_quota", "key_cap", "description")
    fields = PlanForm.Meta.fields

    @override
    def get_readonly_fields(self, request: HttpRequest, obj: Plan | None = None) -> tuple[str, ...]:
        return () if obj is None else ("slug",)

    @admin.display(description="rate limit of each key")
    def rate_limit(self, plan: Plan) -> str:
        return str(plan.terms.rate_limit or "none")

    @override
    def create_through_service(self, request: HttpRequest, form: AnyModelForm) -> Model:
        return services.create_plan(**_wanted(form), slug=form.cleaned_data["slug"], actor=actor(request))

    @override
    def change_through_service(self, request: HttpRequest, stored: Plan, form: AnyModelForm) -> None:
        services.change_plan(stored, **_wanted(form), actor=actor(request))


def _wanted(form: AnyModelForm) -> dict[str, Any]:
    if not isinstance(form, PlanForm):
        raise TypeError("plans have a form of their own")
    return form.wanted()


class NewUserForm(RecordedForm):
    """A new account, with the password that its superuser hands over."""

    password = forms.CharField(
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=password_validation.password_validators_help_text_html,
    )

    class Meta:
        model = User
        fields = ("email", "name", "is_superuser", "staff_role")

    def clean_email(self) -> str:
        """Return the address as it is kept, so that one written otherwise is recognised as taken."""
        return str(self.cleaned_data["email"]).lower()

    def _post_clean(self) -> None:
        # Here the instance holds e-mail and name, to which a password must not be alike.
        super()._post_clean()  # type: ignore[misc]
        password = self.cleaned_data.get("password")
        if password:
            try:
                password_validation.validate_password(password, self.instance)
            except forms.ValidationError as error:
                self.add_error("password", error)


class StaffForm(RecordedForm):
    """What a person may do for the operator; name and address are theirs to change."""

    class Meta:
        model = User
        fields = ("is_superuser", "staff_role")


class PasswordForm(SetPasswordMixin[User], forms.Form):
    """A password typed twice."""

    password1, password2 = SetPasswordMixin.create_password_fields()

    def __init__(self, user: User, *args: Any, **kwargs: Any) -> None:
        self.user = user
        super().__init__(*args, **kwargs)

    def clean(self) -> dict[str, Any] | None:
        self.validate_passwords("password1", "password2")
        self.validate_password_for_user(self.user, "password1")
        return super().clean()


@admin.register(User)
class UserAdmin(ServiceAdmin):
    list_display = ("email", "name", "is_active", "is_superuser", "staff_role", "last_login", "created_at")
    list_filter = ("is_active", "is_superuser", "staff_role")
    search_fields = ("email", "name", "id")
    readonly_fields = ("id", "email", "name", "is_active", "last_login", "created_at", "new_password")
    actions = ("disable", "enable")

    @override
    def get_form(
        self, request: HttpRequest, obj: User | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        kwargs["form"] = StaffForm if change else NewUserForm
        return super().get_form(request, obj, change=change, **kwargs)

    @override
    def get_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        editable = ("is_superuser", "staff_role")
        return ("email", "name", "password", *editable) if obj is None else (*self.readonly_fields, *editable)

    @override
    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        return () if obj is None else self.readonly_fields

    @override
    def get_urls(self) -> list[URLPattern]:
        page = self.admin_site.admin_view(self.password_page)
        return [path("<str:user_id>/password/", page, name="orgs_user_password"), *super().get_urls()]

    @override
    def create_through_service(self, request: HttpRequest, form: AnyModelForm) -> Model:
        return services.create_user(**form.cleaned_data, actor=actor(request))

    @override
    def change_through_service(self, request: HttpRequest, stored: User, form: AnyModelForm) -> None:
        if stored.pk == request.user.pk and not form.cleaned_data["is_superuser"]:
            raise Invalid("Somebody else must take this from you.", field="is_superuser")
        services.change_staff(stored, **form.cleaned_data, actor=actor(request))

    @admin.display(description="password")
    def new_password(self, user: User) -> str:
        return format_html(
            '<a href="{}">{}</a>', reverse("admin:orgs_user_password", args=[user.pk]), "Set a new one"
        )

    def password_page(self, request: HttpRequest, user_id: str) -> HttpResponse:
        """Set a person's password."""
        user = self.get_object(request, user_id)
        if user is None:
            raise Http404
        form = PasswordForm(user, request.POST if request.method == "POST" else None)
        if not form.is_valid():
            return self.ask(request, user, form, "Set password", "All sessions of this person end.")
        services.set_password(user, form.cleaned_data["password1"], actor=actor(request))
        self.message_user(request, f"{user.email} has a new password, and is signed out everywhere.")
        return redirect("admin:orgs_user_change", quote(user.pk))

    @admin.action(description="Disable: bar the chosen people from signing in")
    def disable(self, request: HttpRequest, chosen: QuerySet[User]) -> None:
        if chosen.filter(pk=request.user.pk).exists():
            self.message_user(request, "You can't disable yourself.", messages.ERROR)
            chosen = chosen.exclude(pk=request.user.pk)
        self.each(request, chosen, services.disable_user, "disabled")

    @admin.action(description="Enable the chosen people")
    def enable(self, request: HttpRequest, chosen: QuerySet[User]) -> None:
        self.each(request, chosen, services.enable_user, "enabled")


@admin.register(Membership)
class MembershipAdmin(ReadOnlyAdmin):
    list_display = ("user", "organization", "project", "role", "created_at")
    list_filter = ("role",)
    search_fields = ("user__email", "organization__slug", "id")
    list_select_related = ("user", "organization", "project")
