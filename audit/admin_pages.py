"""Pages of the admin site from which nothing can be written behind the ledger's back.

The admin site shows models that are registered with one of these classes, and no others.
"""

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, override

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpRequest, HttpResponse

from audit.entry import MAX_STRING_BYTES

# Django's own classes are generic for the type checker alone.
if TYPE_CHECKING:
    AnyModelAdmin = admin.ModelAdmin[Any]
    AnyModelForm = forms.ModelForm[Any]
else:
    AnyModelAdmin = admin.ModelAdmin
    AnyModelForm = forms.ModelForm


class Refusal(Protocol):
    """What an app's ladder of errors has: the words for people, and the field of the form or ""."""

    detail: str
    field: str


class ReadOnlyAdmin(AnyModelAdmin):
    """Lists and shows; nothing more."""

    actions = None

    @override
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    @override
    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @override
    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @override
    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        raise PermissionDenied

    @override
    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        raise PermissionDenied

    @override
    def delete_queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> None:
        raise PermissionDenied


class RecordedForm(AnyModelForm):
    """A form that says what a service refused, and keeps what was typed."""

    refused: ClassVar[Exception | None] = None

    def clean(self) -> dict[str, Any]:
        """Refuse what no entry of the ledger can hold, and what the service has refused."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        for name, value in list(cleaned.items()):
            if isinstance(value, str) and len(value.encode()) > MAX_STRING_BYTES:
                self.add_error(name, f"At most {MAX_STRING_BYTES:,} bytes.")
        for refusal in getattr(self.refused, "errors", [self.refused] if self.refused else []):
            self.add_error(refusal.field if refusal.field in self.fields else None, refusal.detail)
        return cleaned


class RecordedAdmin(AnyModelAdmin):
    """Adds and changes through services, which record it; nothing is deleted here.

    A subclass writes in `create_through_service` and `change_through_service`, each with one service, which
    undoes all of its work where it refuses.
    """

    form = RecordedForm
    refusals: ClassVar[tuple[type[Exception], ...]] = ()

    def __init_subclass__(cls) -> None:
        """Refuse what would write rows past the service."""
        super().__init_subclass__()
        if cls.list_editable or cls.inlines:
            raise TypeError(f"{cls.__name__}: a list or an inline that can be edited writes past the service")

    def create_through_service(
        self,
        request: HttpRequest,  # noqa: ARG002
        form: AnyModelForm,  # noqa: ARG002
    ) -> models.Model:
        """Create what the form asks for; return it."""
        raise PermissionDenied

    def change_through_service(
        self,
        request: HttpRequest,  # noqa: ARG002
        stored: Any,  # noqa: ARG002
        form: AnyModelForm,  # noqa: ARG002
    ) -> None:
        """Change `stored`, as it is in the database, into what the form asks for."""
        raise PermissionDenied

    @override
    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the form once more, with the reason at its field, where the service refuses."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except self.refusals as refused:
            request.refused = refused  # type: ignore[attr-defined]
            return super().changeform_view(request, object_id, form_url, extra_context)

    @override
    def get_form(
        self,
        request: HttpRequest,
        obj: Any = None,
        change: bool = False,
        **kwargs: Any,
    ) -> type[AnyModelForm]:
        """Return a class made for this request alone, which knows what was refused."""
        form = super().get_form(request, obj, change=change, **kwargs)
        form.refused = getattr(request, "refused", None)  # type: ignore[attr-defined]
        return form

    @override
    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        """Write through the service. `obj` is what the form made of it, so what is stored is read again."""
        if change:
            self.change_through_service(request, self.get_queryset(request).get(pk=obj.pk), form)
        else:
            obj.pk = self.create_through_service(request, form).pk

    @override
    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: Any) -> None:
        """Write nothing: the service has written everything."""

    @override
    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @override
    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        raise PermissionDenied

    @override
    def delete_queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> None:
        raise PermissionDenied
