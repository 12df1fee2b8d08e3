"""What a person may choose from on a form: scopes with the reasons against them, owners, times of expiry."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from keys import catalogue
from keys.callers import Caller
from keys.catalogue import Catalogue
from keys.errors import ExceedsGrant, Invalid
from keys.governance import ApprovalRule, Required
from keys.models import ApiKey, Scope
from keys.pages.words import days, resource_of, spoken
from keys.policy import Bounds, ExpiryRule, check_scopes, refuse_excess
from keys.scopes import BREAK_GLASS, Preset, covers, is_wildcard, preset
from keys.secret import Kind, Mode
from keys.services.common import approval_rule_for, policy_of, rule_for
from keys.services.recipients import lapsed_recipients, newest_recipient
from orgs.members import Member
from orgs.models import Membership, Project, User
from orgs.roles import Role

OWN_API: Final = "This portal's own API"
DEFAULT, NEVER, CUSTOM, KEEP = "default", "never", "custom", "keep"
PRESET_DAYS: Final = (1, 7, 30, 90, 180, 365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One scope on a form. With a `reason` it can't be ticked; a `note` only warns.

    `alone` keeps it out of the presets: a wildcard, or break-glass, is a deliberate choice.
    """

    name: str
    description: str
    risk: str
    checked: bool
    reason: str = ""
    note: str = ""
    alone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The scopes of one resource."""

    label: str
    scopes: list[Offer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """For what key scopes are offered: `kind` None while none is chosen, `carried` what it has already.

    `is_live`: the page follows each choice, so what the kind can't carry may be barred; without scripts it may
    not, or nobody could change the kind of a form that came back.
    """

    project: Project
    kind: Kind | None = None
    carried: Collection[str] = field(default_factory=tuple)
    is_live: bool = False


def scope_groups(caller: Caller, place: Place, chosen: Collection[str]) -> list[Group]:
    """Return the catalogue by resource, the portal's own last; a deprecated scope only where it is carried."""
    known = catalogue.load()
    rows = [row for row in Scope.objects.all() if not row.is_deprecated or row.name in place.carried]
    rows.sort(key=lambda row: (row.is_builtin, resource_of(row.name), row.name))
    return [
        Group(label=label, scopes=[_offer(row, caller, place, chosen, known) for row in group])
        for label, group in groupby(rows, key=_label)
    ]


def _label(row: Scope) -> str:
    return OWN_API if row.is_builtin else spoken(resource_of(row.name)).capitalize()


def _offer(row: Scope, caller: Caller, place: Place, chosen: Collection[str], known: Catalogue) -> Offer:
    unfit = "" if place.kind is None or _fits(row.name, place.kind, known) else _unfit(row)
    beyond = _beyond(row.name, caller, place.project, known)
    is_carried = row.name in place.carried
    barred = beyond or (unfit if place.is_live else "")
    return Offer(
        name=row.name,
        description=row.description,
        risk=row.risk,
        checked=row.name in chosen and (is_carried or not barred),
        reason="" if is_carried else barred,
        note=_note(row, caller, beyond if is_carried else "") or (unfit if not barred else ""),
        alone=is_wildcard(row.name) or row.name == BREAK_GLASS,
    )


def _fits(scope: str, kind: Kind, known: Catalogue) -> bool:
    try:
        check_scopes([scope], kind, known)
    except Invalid:
        return False
    return True


def _unfit(row: Scope) -> str:
    kinds = [spoken(kind) for kind in row.kinds]
    return f"Only {' and '.join(kinds)} keys can carry it." if kinds else "No key can carry it."


def _beyond(scope: str, caller: Caller, project: Project, known: Catalogue) -> str:
    """Return why the person can't grant a scope at a project; that an owner must confirm first is no reason."""
    is_owner = caller.member is not None and caller.member.organization_role is Role.OWNER
    if covers(scope, BREAK_GLASS) and not is_owner:
        return "Only an owner can grant it."
    bounds = caller.bounds(project)
    lifted = Bounds.of_person(bounds.risks, may_break_glass=is_owner)
    try:
        _refuse(lifted, [scope], project, known)
    except ExceedsGrant:
        role = caller.member.role_at(project) if caller.member else None
        return f"Your role, {role}, can't grant it." if role else "You can't grant it in this project."
    return ""


def _note(row: Scope, caller: Caller, beyond: str) -> str:
    if beyond:
        return f"{beyond} While the key has it, you can only take scopes away."
    if row.is_deprecated:
        return "Deprecated."
    if covers(row.name, BREAK_GLASS) and not caller.has_stepped_up:
        return "Needs your password, confirmed within the last five minutes."
    if is_wildcard(row.name):
        return "Also covers what is added later."
    return ""


def _refuse(bounds: Bounds, scopes: Collection[str], project: Project, known: Catalogue) -> None:
    refuse_excess(
        bounds,
        scopes=scopes,
        risks=catalogue.risks(known),
        project_path=project.ancestors,
        mode=bounds.mode or Mode.LIVE,
    )


def excess(key: ApiKey, caller: Caller) -> str:
    """Return why the caller may not have the key's secret, "" where they may: they must hold all that it opens."""
    try:
        _refuse(caller.bounds(key.project), key.scopes, key.project, catalogue.load())
    except ExceedsGrant as error:
        return error.detail
    return ""


def preset_scopes(name: str, caller: Caller, project: Project, kind: Kind) -> list[str]:
    """Return what a preset ticks for a person: what they may grant of it. Raises `Invalid` for an unknown name."""
    known = catalogue.load()
    return [
        scope
        for scope in preset(Preset(name) if name in tuple(Preset) else name, known, kind)
        if not _beyond(scope, caller, project, known)
    ]


def owners(member: Member, projects: Sequence[Project]) -> list[User]:
    """Return the members whom a person may name as owner: those with standing where the person makes keys."""
    standing = Membership.objects.filter(organization_id=member.organization_id).select_related(
        "user", "project"
    )
    found = {
        membership.user_id: membership.user
        for membership in standing.order_by("user__name", "user__email")
        if membership.project is None or _is_near(membership.project, projects)
    }
    return list(found.values())


def _is_near(place: Project, projects: Sequence[Project]) -> bool:
    return any(
        place.path.startswith(project.path) or project.path.startswith(place.path) for project in projects
    )


def expiry_rule(organization_id: str, kind: Kind) -> ExpiryRule:
    """Return the organization's rule for a kind of key."""
    return rule_for(policy_of(organization_id), kind)


def approval_rule(organization_id: str) -> ApprovalRule:
    """Return the organization's rules for approvals."""
    return approval_rule_for(policy_of(organization_id))


def binding(rule: ApprovalRule) -> str:
    """Return where a new service key must be bound to approvals, "" where its maker decides."""
    match rule.required:
        case Required.PRODUCTION:
            return "Your organization requires it of new service keys in production."
        case Required.ALWAYS:
            return "Your organization requires it of every new service key."
        case Required.NONE:
            return ""


def expiries(rule: ExpiryRule | None) -> list[tuple[str, str]]:
    """Return the times of expiry to choose from; without a rule (no kind is chosen) all there are."""
    if rule is None:
        presets = [(str(count), days(count)) for count in PRESET_DAYS]
        return [
            (DEFAULT, "As the policy says"),
            *presets,
            (NEVER, "Never (ingestion only)"),
            (CUSTOM, "On a date"),
        ]
    lengths = [count for count in PRESET_DAYS if count <= rule.max_days and count != rule.default_days]
    never = [(NEVER, "Never")] if rule.may_never else []
    return [
        (DEFAULT, f"{days(rule.default_days)} (default)"),
        *[(str(count), days(count)) for count in lengths],
        *never,
        (CUSTOM, "On a date"),
    ]


def auto_rotation(organization_id: str) -> str:
    """Return what it means for a key to rotate by itself here."""
    recipient = newest_recipient(organization_id)
    if recipient is None and lapsed_recipients(organization_id):
        return (
            "Before its interval is over or it expires. Whoever registered the recipient key may not do so any more: "
            "until an owner or admin confirms it, it can't, and the security log says so when it is due."
        )
    if recipient is None:
        return (
            "Before its interval is over or it expires. No recipient key is registered yet: until one is, it can't, "
            "and the security log says so when it is due."
        )
    return f"Before its interval is over or it expires. The new secret is sealed to {recipient.name}."
