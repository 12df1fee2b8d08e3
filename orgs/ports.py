"""The few calls that must go upwards: filled in `AppConfig.ready()` of the apps above, run in the same transaction."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from audit.actors import Actor
from orgs.members import Grant
from orgs.models import Environment, Organization, Project

type Facts = Mapping[str, str | int | bool | None]


class MemberLeaving(Protocol):
    """Settle what a person leaves behind in an organization; what is returned goes into the ledger's entry.

    `grants` are the roles that they had until this transaction.
    """

    def __call__(
        self, organization_id: str, user_id: str, *, grants: Sequence[Grant], actor: Actor
    ) -> Facts: ...


class OrganizationClosing(Protocol):
    """Settle what an organization leaves behind; what is returned goes into the ledger's entry."""

    def __call__(self, organization: Organization, *, actor: Actor) -> Facts: ...


on_member_leaving: list[MemberLeaving] = []
on_organization_closing: list[OrganizationClosing] = []
# One sentence for the page that asks first: what `on_member_leaving` would do. (organization's id, user's id).
tell_member_leaving: list[Callable[[str, str], str]] = []
# How many working keys still stand in the way of archiving a project (and what lies below it) or an environment.
on_archiving: list[Callable[[Project | Environment], int]] = []
