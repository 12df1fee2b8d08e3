"""What pages say while no worker runs: that what they promise does not happen."""

from typing import Any

from django import template

from audit import pulse

register = template.Library()


@register.inclusion_tag("components/worker_missing.html")
def worker_missing(consequence: str) -> dict[str, Any]:
    """Say that no worker runs, and what comes of it for this page; nothing where one does."""
    found = pulse.read()
    return {"is_missing": found.is_missing, "seen_at": found.seen_at, "consequence": consequence}
