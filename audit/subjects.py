"""What entries are about in audit's own house: webhooks, called by the host they go to."""

from collections.abc import Collection

from audit.models import Endpoint
from audit.ports import Subject


def subjects(organization_id: str, targets: Collection[str]) -> dict[str, Subject]:
    """Return the webhooks among the targets of entries. Nobody owns one: owners of the organization are told."""
    ids = [each for each in targets if each.startswith("whk_")]
    found = Endpoint.objects.filter(organization_id=organization_id, pk__in=ids)
    return {each.id: Subject(name=each.host, path=f"/webhooks/{each.id}") for each in found}
