"""How django-allauth is bent to this product."""

from typing import Any, cast

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context
from django.contrib.auth.base_user import AbstractBaseUser
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from orgs import services
from orgs.middleware import STARTED, actor
from orgs.models import User
from orgs.requests import PageRequest


class AccountAdapter(DefaultAccountAdapter):
    """Accounts are made by invitation or in the admin site, never by signing up; what changes them is recorded."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:  # noqa: ARG002
        """Refuse; an invitation's page creates the account itself."""
        return False

    def add_message(self, *args: Any, **kwargs: Any) -> None:
        """Say nothing: being signed in or out shows by itself."""

    def authenticate(self, request: HttpRequest, **credentials: Any) -> AbstractBaseUser | None:
        """Return the person whose password it is; one who is disabled gets the answer of a wrong password."""
        user: AbstractBaseUser | None = super().authenticate(request, **credentials)
        return user if user and user.is_active else None

    def login(self, request: HttpRequest, user: AbstractBaseUser) -> None:
        """Store the session under a new id and record it, both or neither."""
        with transaction.atomic():
            super().login(request, user)
            request.session[STARTED] = timezone.now().timestamp()
            request.session.save()
            services.start_session(cast(User, user), actor=actor(cast(PageRequest, request)))

    def reauthenticate(self, user: AbstractBaseUser, password: str) -> bool:
        """Check the password once more; the session goes on under a new id, so that an old one never steps up."""
        confirmed: bool = super().reauthenticate(user, password)
        if confirmed:
            context.request.session.cycle_key()
        return confirmed

    def set_password(self, user: AbstractBaseUser, password: str) -> None:
        """Change the signed-in person's own password and end their other sessions."""
        request = cast(PageRequest, context.request)
        services.set_password(
            cast(User, user), password, actor=actor(request), keep_session=request.session.session_key or ""
        )
