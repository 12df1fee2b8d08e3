"""What the page of recipient keys says of each: whether secrets are sealed to it, and if not, why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keys.models import Recipient
from keys.models.recipient import RecipientQuerySet
from keys.pages import history
from orgs.models import Membership


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One recipient. `lapsed` says why nothing is sealed to it, "" where it may be; `is_next` where it will be.

    `by` registered it; `kept_by` confirmed it last, "" where nobody has.
    """

    recipient: Recipient
    by: str
    kept_by: str
    lapsed: str
    is_next: bool


def rows(found: RecipientQuerySet) -> list[Row]:
    """Return the current ones of an organization's recipients, the newest first."""
    current = list(found.current())
    vouched = list(found.current().vouched().values_list("pk", flat=True))
    people = sorted({person for recipient in current for person in recipient.vouched_by})
    names, left = history.names_of(people), _departures(current, people)
    return [
        Row(
            recipient=recipient,
            by=names.get(recipient.created_by, recipient.created_by),
            kept_by=names.get(last, last)
            if (last := recipient.vouched_by[-1]) != recipient.created_by
            else "",
            lapsed="" if recipient.pk in vouched else left[recipient.created_by],
            is_next=recipient.pk in vouched[:1],
        )
        for recipient in current
    ]


def lapsed_words(recipient: Recipient) -> str:
    """Return what has become of whoever registered a recipient that nobody vouches for."""
    return _departures([recipient], recipient.vouched_by)[recipient.created_by]


def _departures(recipients: Sequence[Recipient], people: Sequence[str]) -> Mapping[str, str]:
    """Return what has become of people in the recipients' organization, by id."""
    organization_id = recipients[0].organization_id if recipients else ""
    standing = dict(
        Membership.objects.filter(organization_id=organization_id, user__in=people).values_list(
            "user_id", "user__is_active"
        )
    )
    return {person: _departure(standing.get(person)) for person in people}


def _departure(may_sign_in: bool | None) -> str:  # noqa: FBT001 - None for whoever is no member
    match may_sign_in:
        case None:
            return "has left"
        case False:
            return "may not sign in any more"
        case True:
            return "is no owner or admin any more"
