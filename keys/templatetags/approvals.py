"""What the frame of every page says of approvals."""

from django import template

from keys.governance import ApprovalState
from keys.pages import approvals as approval_pages
from orgs.members import Member

register = template.Library()


@register.simple_tag
def approvals_waiting(member: Member | None) -> int:
    """Return how many requests wait for a person's decision."""
    return approval_pages.waiting_for(member) if member is not None else 0


@register.filter
def approval_class(state: str) -> str:
    """Return the colour class of an approval's state."""
    return approval_pages.STATES[ApprovalState(state)][0]


@register.filter
def approval_label(state: str) -> str:
    """Return an approval's state in words."""
    return approval_pages.STATES[ApprovalState(state)][1]
