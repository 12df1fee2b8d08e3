"""Every change to people and tenants: one function each, with its rows and its ledger entry in one transaction."""

from orgs.services.environments import archive_environment, create_environment, rename_environment
from orgs.services.founding import appoint_owner
from orgs.services.invitations import (
    Invited,
    accept_invitation,
    invite_member,
    join_with_new_account,
    withdraw_invitation,
)
from orgs.services.membership import change_role, remove_member
from orgs.services.organizations import (
    change_organization,
    change_overrides,
    create_organization,
    resume_organization,
    suspend_organization,
)
from orgs.services.people import (
    change_staff,
    create_user,
    disable_user,
    enable_user,
    set_password,
    start_session,
)
from orgs.services.plans import change_plan, create_plan
from orgs.services.projects import archive_project, create_project, rename_project, set_project_scopes

__all__ = [
    "Invited",
    "accept_invitation",
    "appoint_owner",
    "archive_environment",
    "archive_project",
    "change_organization",
    "change_overrides",
    "change_plan",
    "change_role",
    "change_staff",
    "create_environment",
    "create_organization",
    "create_plan",
    "create_project",
    "create_user",
    "disable_user",
    "enable_user",
    "invite_member",
    "join_with_new_account",
    "remove_member",
    "rename_environment",
    "rename_project",
    "resume_organization",
    "set_password",
    "set_project_scopes",
    "start_session",
    "suspend_organization",
    "withdraw_invitation",
]
