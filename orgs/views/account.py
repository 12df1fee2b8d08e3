"""Signing in and out, and the password: django-allauth's views, limited and recorded."""

from typing import Any

from allauth.account import views
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.views.decorators.debug import sensitive_post_parameters

from orgs.limits import limit_confirmation, limit_sign_in
from orgs.middleware import outside_organization

sign_in = limit_sign_in(views.login)
password_change = outside_organization(limit_confirmation(views.password_change))
confirmation = sensitive_post_parameters("password")(
    outside_organization(limit_confirmation(views.reauthenticate))
)


@login_not_required
def sign_out(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    response: HttpResponse = views.logout(request, **kwargs)
    if request.method == "POST":
        response["Clear-Site-Data"] = '"cache", "cookies", "storage"'
    return response
