"""What every page's frame shows: the organizations and projects to switch between."""

from dataclasses import dataclass
from functools import cached_property

from django.http import HttpRequest

from audit import tenancy
from orgs import access
from orgs.members import Member
from orgs.models import Project


@dataclass
class Frame:
    """The switchers, read from the database only where a page draws them."""

    request: HttpRequest

    @property
    def member(self) -> Member | None:
        return getattr(self.request, "member", None)

    @cached_property
    def organizations(self) -> list[tuple[str, str]]:
        """Return (id, name) of each organization of the person."""
        return getattr(self.request, "organizations", [])

    @cached_property
    def projects(self) -> list[Project]:
        """Return the projects that the person reaches, in tree order."""
        if self.member is None:
            return []
        # A page outside the organization's transaction has the frame too.
        with tenancy.within(self.member.organization_id):
            return access.projects(self.member)


def frame(request: HttpRequest) -> dict[str, Frame]:
    return {"frame": Frame(request)}
