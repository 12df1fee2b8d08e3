"""What keys keep of texts that the ledger seals: copies of what an erasure takes out of it go with it (`audit.ports`).

What stays: addresses from which keys were used, which are those of the customer's programs and nobody's own; and the
names of things, which stand in the entries themselves.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

from django.db import connection

from audit.acts import Act
from audit.erasing.finding import ERASED
from audit.ports import Unsealed
from keys.models import ApiKey, Approval, IdempotencyRecord, Incident
from keys.models.key import RevocationReason

# Answers of a day that say one of the texts.
ANSWERS: Final = """
    SELECT id FROM keys_idempotencyrecord r WHERE organization_id = %s AND EXISTS (
        SELECT FROM jsonb_path_query(r.answer, 'strict $.** ? (@.type() == "string")') s
        WHERE s #>> '{}' = ANY (%s))
    ORDER BY id
"""


def forget_copies(organization_id: str, unsealed: Sequence[Unsealed]) -> None:
    """Write `ERASED` over what descriptions, notes and reasons copy of these fields, and over it in kept answers."""
    targets = _Targets(unsealed)
    approvals = Approval.objects.of(organization_id)
    approvals.filter(pk__in=targets("reason", Act.APPROVAL_REQUESTED)).update(reason=ERASED)
    decided = targets("note", Act.APPROVAL_GRANTED, Act.APPROVAL_DENIED)
    approvals.filter(pk__in=decided).exclude(note="").update(note=ERASED)
    _forget_incidents(organization_id, targets)
    _write_over(targets("note", Act.KEY_REVOKED), "revocation_note")
    texts = targets.with_values("description", Act.KEY_CREATED, Act.KEY_CHANGED)
    # Somebody else may have described it since.
    standing = ApiKey.objects.filter(pk__in=texts, organization_id=organization_id).exclude(description="")
    described = [key.pk for key in standing if key.description in texts[key.pk]]
    _write_over(described, "description")
    _forget_answers(
        organization_id, {one.value for one in unsealed if one.field in ("description", "note", "reason")}
    )


class _Targets:
    """What the entries of some fields were about."""

    def __init__(self, unsealed: Iterable[Unsealed]) -> None:
        self._unsealed = unsealed

    def __call__(self, field: str, *acts: Act) -> set[str]:
        return set(self.with_values(field, *acts))

    def with_values(self, field: str, *acts: Act) -> dict[str, set[str]]:
        """Return the values by target."""
        found: dict[str, set[str]] = {}
        for one in self._unsealed:
            if one.field == field and one.act in acts:
                found.setdefault(one.target, set()).add(one.value)
        return found


def _forget_incidents(organization_id: str, targets: _Targets) -> None:
    own = Incident.objects.filter(organization_id=organization_id)
    for incident in own.filter(pk__in=targets("reason", Act.BREAKGLASS_EXECUTED)).order_by("id"):
        # Each key that it revoked says the same.
        revoked = ApiKey.objects.filter(
            incidents__incident=incident,
            revocation_reason=RevocationReason.INCIDENT,
            revocation_note=incident.reason,
        )
        _write_over(revoked.values_list("pk", flat=True), "revocation_note")
        own.filter(pk=incident.pk).update(reason=ERASED)
    for incident in own.filter(pk__in=targets("q", Act.BREAKGLASS_EXECUTED), filter__has_key="q"):
        own.filter(pk=incident.pk).update(filter=incident.filter | {"q": ERASED})


def _write_over(ids: Iterable[str], column: str) -> None:
    """Erase a column of keys, in the order in which everybody locks them."""
    filled = ApiKey.objects.filter(pk__in=list(ids)).exclude(**{column: ""}).order_by("pk")
    locked = list(filled.select_for_update(no_key=True).values_list("pk", flat=True))
    ApiKey.objects.filter(pk__in=locked).update(**{column: ERASED})


def _forget_answers(organization_id: str, values: Collection[str]) -> None:
    if not values:
        return
    with connection.cursor() as cursor:
        cursor.execute(ANSWERS, [organization_id, list(values)])
        found = [pk for (pk,) in cursor.fetchall()]
    for kept in IdempotencyRecord.objects.filter(pk__in=found):
        kept.answer = _without(kept.answer, values)
        kept.save(update_fields=["answer"])


def _without(answer: Any, values: Collection[str]) -> Any:
    match answer:
        case dict():
            return {name: _without(item, values) for name, item in answer.items()}
        case list():
            return [_without(item, values) for item in answer]
        case str() if answer in values:
            return ERASED
        case _:
            return answer
