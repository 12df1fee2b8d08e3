"""How django-allauth is bent to this product."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest


class AccountAdapter(DefaultAccountAdapter):
    """Accounts are made by invitation or in the admin site, never by signing up."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:  # noqa: ARG002
        """Refuse; an invitation's page creates the account itself."""
        return False

    def add_message(self, *args: Any, **kwargs: Any) -> None:
        """Say nothing: being signed in or out shows by itself."""
