"""Which acts people are told of by mail, whom, and in what words: pure, from what entries say (spec EVENTS, Notices).

A mail holds a key's name, a time, what to do and a link; no secret, no address, no free text of anybody. What comes
from an entry goes into one line without control characters, so that no name can add a header or a paragraph.
"""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from audit.acts import Act

OWNERS: Final = frozenset({"owner"})
OWNERS_AND_ADMINS: Final = frozenset({"owner", "admin"})
# Of one act to one person at once; more of them go into one mail.
MOST_SINGLE: Final = 3
MOST_LISTED: Final = 20
LONGEST_WORD: Final = 80
LONGEST_SUBJECT: Final = 200
_ELLIPSIS: Final = "…"
# Controls, and marks that turn the direction of what follows them.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One entry as a mail tells of it.

    `name`, `path`, `owner_id` and `project_id` are of its target, empty where nothing is known of it; `who` is the
    actor's name.
    """

    epoch: int
    index: int
    act: Act
    at: datetime
    target: str
    actor: str
    who: str = ""
    name: str = ""
    path: str = ""
    owner_id: str = ""
    project_id: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What a mail says: its subject without the organization, and its paragraphs."""

    subject: str
    paragraphs: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How one act is told.

    `roles` in the whole organization get the mail, and at the target's project or above it; with `tells_owner` also
    whoever the target belongs to. `many` is the subject of a mail about several, with `{count}`; `page` is the path
    where they are seen together.
    """

    words: Callable[[Told], Words]
    many: str
    page: str
    roles: frozenset[str] = OWNERS_AND_ADMINS
    tells_owner: bool = False
    tells_actor: bool = True
    is_told: Callable[[Told], bool] = lambda _: True


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Who may be told.

    `holders`: ids of who holds one of some roles in the whole organization. `local`: who holds one at a project or
    above it, by roles, project and person, with the topmost project where they do. `owners`: of the ids that own
    targets, those of people who may be told.
    """

    holders: Mapping[frozenset[str], Sequence[str]]
    local: Mapping[frozenset[str], Mapping[str, Mapping[str, str]]]
    owners: frozenset[str]


@dataclass(frozen=True, slots=True)
class Standing:
    """Why somebody is told: for roles, in the whole organization or at one project; without roles, in person."""

    roles: frozenset[str] = frozenset()
    project_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A mail to one person. `place` is the entry's, or the first one's of many."""

    place: tuple[int, int]
    act: Act
    user_id: str
    standing: Standing
    subject: str
    text: str


def is_mailed(act: str) -> bool:
    """Tell whether an act may be told by mail; what its entry says can still speak against it."""
    return act in RULES


def letters(told: Sequence[Told], people: People, *, organization: str, base_url: str) -> list[Letter]:
    """Return the mails that entries cause: each entry is told to a person once.

    Args:
        told: entries in the order of the ledger; those that are not told by mail are left out.
        people: who may be told, for the roles of each rule.
        organization: its name.
        base_url: of the portal, without a slash at the end.
    """
    # What somebody hears as a project's admin is a mail of its own: it goes if they still are when it is sent.
    gathered: dict[tuple[Act, str, str], list[Told]] = {}
    roles: dict[tuple[Act, str, str], frozenset[str]] = {}
    for entry in told:
        rule = RULES.get(entry.act)
        if rule is None or not rule.is_told(entry):
            continue
        for person, by in _readers(entry, rule, people).items():
            about = (entry.act, person, by.project_id)
            gathered.setdefault(about, []).append(entry)
            # Whom one of them concerns in person keeps the mail when a role is taken away.
            roles[about] = by.roles & roles.get(about, by.roles)
    return [
        _letter(part, about[1], Standing(roles[about], about[2]), organization, base_url)
        for about, entries in gathered.items()
        for part in _parts(entries)
    ]


def _readers(entry: Told, rule: Rule, people: People) -> dict[str, Standing]:
    """Return who is told of an entry, and why: in person before the organization's roles, those before a project's."""
    local = people.local.get(rule.roles, {}).get(entry.project_id, {})
    readers = {person: Standing(rule.roles, project_id) for person, project_id in local.items()}
    readers |= dict.fromkeys(people.holders.get(rule.roles, ()), Standing(rule.roles))
    if rule.tells_owner and entry.owner_id in people.owners:
        readers[entry.owner_id] = Standing()
    if not rule.tells_actor:
        readers.pop(entry.actor, None)
    return readers


def _parts(entries: Sequence[Told]) -> Sequence[Sequence[Told]]:
    return [[entry] for entry in entries] if len(entries) <= MOST_SINGLE else [entries]


def _letter(
    entries: Sequence[Told], person: str, standing: Standing, organization: str, base_url: str
) -> Letter:
    first, rule = entries[0], RULES[entries[0].act]
    words = rule.words(first) if len(entries) == 1 else _many(entries, rule)
    path = first.path if len(entries) == 1 and first.path else rule.page
    place = word(organization)
    subject = f"[{place}] {words.subject}"
    return Letter(
        place=(first.epoch, first.index),
        act=first.act,
        user_id=person,
        standing=standing,
        subject=subject if len(subject) <= LONGEST_SUBJECT else subject[: LONGEST_SUBJECT - 1] + _ELLIPSIS,
        text="\n\n".join([*words.paragraphs, f"{base_url}{path}", f"--\n{_reason(standing, place)}"]) + "\n",
    )


def _reason(standing: Standing, place: str) -> str:
    if standing.project_id:
        return f"You get this as an admin of a project of {place}."
    if standing.roles:
        return f"You get this as an owner or admin of {place}."
    return f"You get this because it concerns what is yours at {place}."


def _many(entries: Sequence[Told], rule: Rule) -> Words:
    subject = rule.many.format(count=f"{len(entries):,}")
    lines = [f"- {rule.words(entry).subject}" for entry in entries[:MOST_LISTED]]
    if len(entries) > MOST_LISTED:
        lines.append(f"and {len(entries) - MOST_LISTED:,} more")
    return Words(subject=subject, paragraphs=[f"{subject}:", "\n".join(lines)])


def word(value: object) -> str:
    """Return a value of an entry as one line of at most 80 characters, without what a mail program may not show."""
    shown = "".join(" " if unicodedata.category(mark) in _UNSEEN else mark for mark in str(value))
    line = " ".join(shown.split())
    return line if len(line) <= LONGEST_WORD else line[: LONGEST_WORD - 1] + _ELLIPSIS


def day(value: object) -> str:
    """Return a time of an entry, as text or as it is, in words: `3 December 2026, 09:00 UTC`; "" for anything else."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return ""
    return f"{value.day} {value:%B %Y, %H:%M} UTC" if isinstance(value, datetime) else ""


def _key(told: Told) -> str:
    return f"The key “{word(told.name)}”" if told.name else f"The key {told.target}"


def _expiring(told: Told) -> Words:
    when = day(told.data.get("expires_at"))
    subject = f"{_key(told)} expires" + (f" on {when}" if when else " soon")
    if turn := day(told.data.get("rotates_at")):
        todo = f"It rotates by itself on {turn}; see that what uses it takes up the new secret."
    else:
        todo = "Rotate it before then, and give the new secret to whatever uses it."
    return Words(
        subject=subject, paragraphs=[f"{subject}. From then on every call with it is refused.", todo]
    )


def _expired(told: Told) -> Words:
    subject = f"{_key(told)} has expired"
    when = day(told.data.get("expires_at"))
    return Words(
        subject=subject,
        paragraphs=[
            f"{subject}{f' ({when})' if when else ''}, and every call with it is refused.",
            "If something still needs it, create a new key. If not, nothing is to be done.",
        ],
    )


# What became of the secret that was found, and what is to be done.
_LEAKED: Final = {
    "revoked": (
        "The key was revoked.",
        "Give whatever used it another key, and look at what was done with it lately.",
    ),
    "quarantined": (
        "The key was disabled until somebody decides.",
        "Give whatever used it another key and revoke this one, or enable it if it was a false alarm.",
    ),
    "retired": (
        "That secret was retired; the key's newest one goes on working.",
        "Give the newest secret to whatever still used the old one, and look at what was done with it lately.",
    ),
    "nothing": ("That secret was refused already.", "Look whether it was used while it was valid."),
}


def _leaked(told: Told) -> Words:
    subject = f"{_key(told)} has leaked"
    became, todo = _LEAKED.get(str(told.data.get("outcome")), ("Its secret is refused from now on.", ""))
    return Words(
        subject=subject,
        paragraphs=[
            f"A secret of {_lower(_key(told))} was found where it does not belong, on {day(told.at)}. {became}",
            *([todo] if todo else []),
        ],
    )


def _first_network(told: Told) -> Words:
    network = word(told.data.get("network", ""))
    subject = f"{_key(told)} is used from a new network"
    return Words(
        subject=subject,
        paragraphs=[
            f"{_key(told)} was used from {network or 'a network'} for the first time, around {day(told.at)}.",
            "If you do not know it, disable or rotate the key.",
        ],
    )


def _overdue(told: Told) -> Words:
    subject = f"The rotation of {_lower(_key(told))} is overdue"
    return Words(
        subject=subject,
        paragraphs=[
            f"{subject}: its deadline has passed, and something still uses the old secret.",
            "See who, give them the new secret, and complete the rotation or cancel it.",
        ],
    )


UNCONFIRMED: Final = (
    "Whoever registered your recipient key is no owner or admin any more and may have kept its private key. Under "
    "Settings, Policies, Recipient keys confirm that you hold it, or register another; or rotate the key by hand."
)


def _failed(told: Told) -> Words:
    subject = f"{_key(told)} could not rotate by itself"
    return Words(
        subject=subject,
        paragraphs=[
            f"{subject}. Its present secret goes on working until it expires.",
            UNCONFIRMED if told.data.get("reason") == "recipient_unconfirmed" else "Rotate it by hand.",
        ],
    )


def _started(told: Told) -> Words:
    if _is_itself(told):
        subject = f"{_key(told)} has rotated itself"
        told_why = "It was asked for with the key's own secret."
    else:
        subject = f"{_key(told)} was rotated because its owner has left"
        told_why = "Its old secret is accepted for a while yet."
    return Words(
        subject=subject,
        paragraphs=[
            f"{subject}, on {day(told.at)}. {told_why}",
            "If you did not expect it, open the key and cancel the rotation, or revoke the key."
            if _is_itself(told)
            else "Give the new secret to whatever uses it, before the old one ends.",
        ],
    )


# Why a webhook was disabled, and what is to be done.
_DISABLED: Final = {
    "person": ("by {who}", "If it was not meant, enable it."),
    "gone": (
        "because it answered that it is gone for good",
        "If it is not, give its new address and enable it; else remove it.",
    ),
    "failing": (
        "because it did not take what was sent to it",
        "See what it answered, repair it, and enable it.",
    ),
}


def _webhook_disabled(told: Told) -> Words:
    subject = f"The webhook to {word(told.name or told.data.get('url') or told.target)} was disabled"
    why, todo = _DISABLED.get(str(told.data.get("reason")), ("", "See why, and enable it."))
    return Words(
        subject=subject,
        paragraphs=[
            f"{f'{subject} on {day(told.at)}, {why.format(who=_who(told))}'.rstrip(', ')}."
            " Nothing is lost: what it missed can be sent again.",
            todo,
        ],
    )


def _break_glass(told: Told) -> Words:
    count = told.data.get("count")
    keys = f"{count:,} keys were" if isinstance(count, int) and count != 1 else "Keys were"
    subject = f"Break-glass: {'1 key was' if count == 1 else keys} revoked"
    return Words(
        subject=subject,
        paragraphs=[
            f"{subject}, on {day(told.at)} by {_who(told)}. Every call with them is refused since then.",
            "The incident's page shows where they were in use, and helps to give out new ones.",
        ],
    )


def _break_glass_refused(told: Told) -> Words:
    subject = "Somebody tried break-glass and was refused"
    return Words(
        subject=subject,
        paragraphs=[f"{_who(told)} tried to revoke many keys at once on {day(told.at)}, and was refused."],
    )


def _approval_requested(told: Told) -> Words:
    subject = f"Approval is asked for: {word(told.data.get('scope', '')) or 'an execution'}"
    return Words(
        subject=subject,
        paragraphs=[
            f"{_who(told)} asks that {_lower(_key(told))} may run {word(told.data.get('scope', 'something'))}.",
            "Somebody other than who asks must grant or deny it.",
        ],
    )


def _approval_answered(told: Told) -> Words:
    answer = "granted" if told.act is Act.APPROVAL_GRANTED else "denied"
    scope = word(told.data.get("scope", ""))
    subject = f"Your request{f' for {scope}' if scope else ''} was {answer}"
    return Words(subject=subject, paragraphs=[f"{subject} by {_who(told)} on {day(told.at)}."])


# What was done to one key, and to many.
_DONE_TO_KEYS: Final = {
    "disable": ("was disabled", "were disabled"),
    "revoke": ("was revoked", "were revoked"),
    "hand_over": ("now belongs to a team", "now belong to a team"),
    "rotate": ("rotates, and its old secret ends soon", "rotate, and their old secrets end soon"),
}


def _support_opened(told: Told) -> Words:
    return Words(
        subject="Support is looking at your organization",
        paragraphs=[
            f"{_who(told)} of the support staff opened your organization on {day(told.at)}, to read it.",
            "They see no secret and change nothing. Why they came, and each page that they open, stands in your"
            " security log.",
        ],
    )


def _member_removed(told: Told) -> Words:
    count = told.data["keys_count"]
    one, many = _DONE_TO_KEYS.get(str(told.data.get("keys_action")), ("was changed", "were changed"))
    what = f"a key of theirs {one}" if count == 1 else f"{count:,} of their keys {many}"
    subject = f"Somebody left, and {what}"
    return Words(
        subject=subject,
        paragraphs=[
            f"{subject}, as the organization's policy says. It was on {day(told.at)}.",
            "See whether something still needs what they had.",
        ],
    )


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _who(told: Told) -> str:
    return word(told.who) or ("Keystead" if told.actor.startswith("sys_") else "somebody")


def _is_itself(told: Told) -> bool:
    return told.actor == told.target


def _is_unattended(told: Told) -> bool:
    return _is_itself(told) or told.data.get("cause") == "owner_left"


def _has_count(told: Told) -> bool:
    return told.data.get("count") != 0


def _has_keys(told: Told) -> bool:
    count = told.data.get("keys_count")
    return isinstance(count, int) and count > 0


KEYS, LOG = "/", "/log"
RULES: Final[Mapping[Act, Rule]] = {
    Act.KEY_EXPIRING: Rule(words=_expiring, many="{count} keys expire soon", page=KEYS, tells_owner=True),
    Act.KEY_EXPIRED: Rule(words=_expired, many="{count} keys have expired", page=KEYS, tells_owner=True),
    Act.KEY_LEAKED: Rule(words=_leaked, many="{count} keys have leaked", page=KEYS, tells_owner=True),
    Act.KEY_FIRST_NETWORK: Rule(
        words=_first_network, many="{count} keys are used from new networks", page=KEYS, tells_owner=True
    ),
    Act.ROTATION_STARTED: Rule(
        words=_started,
        many="{count} keys have rotated",
        page=KEYS,
        tells_owner=True,
        is_told=_is_unattended,
    ),
    Act.ROTATION_OVERDUE: Rule(
        words=_overdue, many="{count} rotations are overdue", page=KEYS, tells_owner=True
    ),
    Act.ROTATION_FAILED: Rule(
        words=_failed, many="{count} keys could not rotate by themselves", page=KEYS, tells_owner=True
    ),
    Act.WEBHOOK_DISABLED: Rule(
        words=_webhook_disabled,
        many="{count} webhooks were disabled",
        page="/webhooks",
        roles=OWNERS,
    ),
    Act.BREAKGLASS_EXECUTED: Rule(
        words=_break_glass,
        many="Break-glass was used {count} times",
        page="/incidents",
        is_told=_has_count,
    ),
    Act.BREAKGLASS_REFUSED: Rule(
        words=_break_glass_refused, many="Break-glass was refused {count} times", page=LOG
    ),
    Act.APPROVAL_REQUESTED: Rule(
        words=_approval_requested,
        many="{count} approvals are asked for",
        page="/approvals",
        tells_actor=False,
    ),
    Act.APPROVAL_GRANTED: Rule(
        words=_approval_answered,
        many="{count} of your requests were granted",
        page="/approvals",
        roles=frozenset(),
        tells_owner=True,
    ),
    Act.APPROVAL_DENIED: Rule(
        words=_approval_answered,
        many="{count} of your requests were denied",
        page="/approvals",
        roles=frozenset(),
        tells_owner=True,
    ),
    Act.SUPPORT_OPENED: Rule(
        words=_support_opened,
        many="Support opened your organization {count} times",
        page=LOG,
        roles=OWNERS,
        is_told=lambda told: told.data.get("kind") != "search",
    ),
    Act.MEMBER_REMOVED: Rule(
        words=_member_removed,
        many="{count} people left, and something was done to their keys",
        page=KEYS,
        is_told=_has_keys,
    ),
}
