from django.urls import URLPattern, URLResolver, include, path

from orgs.views import account, environments, joining, members, organization, projects, switching

orgs = [
    path("settings", organization.settings, name="settings"),
    path("settings/organization", organization.organization, name="organization"),
    path("settings/members", members.members, name="members"),
    path("settings/members/invite", members.invite, name="invite"),
    path("settings/members/<str:membership_id>", members.member_change, name="member_change"),
    path("settings/members/<str:membership_id>/remove", members.member_remove, name="member_remove"),
    path(
        "settings/invitations/<str:invitation_id>/withdraw",
        members.invitation_withdraw,
        name="invitation_withdraw",
    ),
    path("settings/projects", projects.projects, name="projects"),
    path("settings/projects/<str:project_id>/new", projects.project_create, name="project_create"),
    path("settings/projects/<str:project_id>/rename", projects.project_rename, name="project_rename"),
    path("settings/projects/<str:project_id>/scopes", projects.project_scopes, name="project_scopes"),
    path("settings/projects/<str:project_id>/archive", projects.project_archive, name="project_archive"),
    path("settings/environments", environments.environments, name="environments"),
    path("settings/environments/new", environments.environment_create, name="environment_create"),
    path(
        "settings/environments/<str:environment_id>/rename",
        environments.environment_rename,
        name="environment_rename",
    ),
    path(
        "settings/environments/<str:environment_id>/archive",
        environments.environment_archive,
        name="environment_archive",
    ),
    path("switch/organization", switching.switch_organization, name="switch_organization"),
    path("switch/project", switching.switch_project, name="switch_project"),
    path("join", joining.join, name="join"),
    path("join/new", joining.join_new, name="join_new"),
    path("join/<str:token>", joining.invitation, name="invitation"),
]
# Of django-allauth only these, so that signing up, resetting and its e-mail pages are not there at all.
accounts = [
    path("login", account.sign_in, name="account_login"),
    path("logout", account.sign_out, name="account_logout"),
    path("account/password", account.password_change, name="account_change_password"),
    path("account/confirm", account.confirmation, name="account_reauthenticate"),
]
urlpatterns: list[URLPattern | URLResolver] = [path("", include((orgs, "orgs"))), *accounts]
