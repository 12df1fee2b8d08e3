"""People and tenancy: who there is, in which organization, in which of its projects and environments."""

from orgs.models.membership import Invitation, Membership
from orgs.models.organization import Environment, Organization, Plan, Project
from orgs.models.session import Session
from orgs.models.user import StaffRole, User

__all__ = [
    "Environment",
    "Invitation",
    "Membership",
    "Organization",
    "Plan",
    "Project",
    "Session",
    "StaffRole",
    "User",
]
