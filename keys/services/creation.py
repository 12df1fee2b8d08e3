"""Creating a key: checks first, then the rows; the secret leaves in the return value and nowhere else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings
from django.db import IntegrityError, connection, transaction

from audit import ledger, tenancy
from audit.acts import Act
from keys import catalogue, clock, governance, peppers
from keys import secret as secrets
from keys.callers import Caller
from keys.errors import Forbidden, Invalid, KeyCapReached, NameTaken
from keys.models import ApiKey, KeyPolicy, KeySecret, OwnerType
from keys.models.key import new_key_id
from keys.policy import (
    ABSENT,
    Requested,
    check_description,
    check_interval,
    check_name,
    check_scopes,
    check_tags,
    check_team,
    grant_expiry,
    grant_limit,
    grant_networks,
    normalise_networks,
    refuse_excess,
    told,
)
from keys.secret import Kind, Mode
from keys.services.common import (
    LimitAsked,
    approval_rule_for,
    check_limit,
    collect,
    facts,
    limit_columns,
    policy_of,
    rule_for,
    tag_list,
    terms_of,
)
from orgs.models import Environment, Membership, Project, User
from orgs.terms import Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who answers for a key: a member of the organization, or a team by its name."""

    member: User | None = None
    team: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A key as its creator wants it.

    `allowed_ips` None, `expires` `ABSENT` and `rate_limit` `ABSENT` mean that the policy or the plan, and the creator's
    own bounds, decide.
    """

    kind: Kind
    name: str
    project: Project
    environment: Environment
    scopes: Sequence[str]
    owner: Owner = field(default_factory=Owner)
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    allowed_ips: Sequence[str] | None = None
    expires: Requested = ABSENT
    rate_limit: LimitAsked = ABSENT
    rotation_interval_days: int | None = None
    auto_rotate: bool = False
    may_rotate_itself: bool = True
    approval_bound: bool = False


@dataclass(frozen=True, slots=True)
class Created:
    """A fresh key and its secret. `secret` is secret: show it once."""

    key: ApiKey
    secret: str = field(repr=False)


def create_key(draft: Draft, *, actor: Caller) -> Created:
    """Create a key with its first secret.

    Writes the key, its secret's digest and the entry `key.created`. `draft.project` and `draft.environment` are of
    one organization, and the caller's access to them was checked (404); whether they may grant this is checked here.

    Raises:
        Invalid, InvalidMany: fields out of their bounds (spec KEYS §2).
        Forbidden: the caller changes no keys at this project.
        ExceedsGrant: more than the caller holds, or more than the plan allows.
        NameTaken: a key of this environment that has not ended has this name.
        KeyCapReached: as many keys that have not ended as the plan has room for; exact, however many create at once.
    """
    organization_id = draft.project.organization_id
    if not actor.reaches(draft.project):
        raise Forbidden("You may not create keys in this project.", field="project")
    with ledger.recording(organization_id, actor) as entry:
        now, terms = _begin(organization_id, actor), terms_of(organization_id)
        key = _checked(draft, terms, actor, now)
        key.person_touched_at = _touched_at(actor, now)
        _check_room(terms, organization_id, now)
        text = secrets.generate(settings.KEY_BRAND, draft.kind, Mode(draft.environment.mode))
        key.hint = secrets.hint(text)
        _insert(key, now)
        insert_secret(key, version=1, text=text, now=now)
        entry(
            Act.KEY_CREATED, target=key.id, data=facts(key, after=_described(key, draft)), sealed=_sealed(key)
        )
    return Created(key, text)


def _begin(organization_id: str, actor: Caller) -> datetime:
    """Return the time of creation, in the order of commits: a list by time then never skips a late comer.

    Whoever waited here may have been revoked meanwhile: no key is left behind by one that is.
    """
    hold_creation(organization_id)
    if actor.presented is not None:
        # The operator's key stands in another organization than the one that it creates in.
        with tenancy.within(actor.presented.key.organization_id):
            if not ApiKey.objects.filter(pk=actor.presented.key.id, revoked_at=None).exists():
                raise Forbidden("Your key was revoked.")
    return clock.now()


def _touched_at(actor: Caller, now: datetime) -> datetime:
    """Return when a person last had a hand in a new key: a key makes none that outlasts its own time without one.

    The operator's keys create in the name of customers, whose keys begin anew.
    """
    presented = actor.presented
    if presented is None or presented.is_operator:
        return now
    return ApiKey.objects.values_list("person_touched_at", flat=True).get(pk=presented.key.id)


def hold_creation(organization_id: str) -> None:
    """Let nobody else create keys of an organization until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('keys:create:' || %s, 0))", [organization_id]
        )


def _check_room(terms: Terms, organization_id: str, now: datetime) -> None:
    """Refuse a key beyond the plan's cap; whoever else creates waits for this transaction's lock."""
    cap = terms.key_cap
    if cap is not None and ApiKey.objects.of(organization_id).not_ended(now).count() >= cap:
        raise KeyCapReached(f"The plan has room for {cap:,} keys in use, and that many there are.")


def _checked(draft: Draft, terms: Terms, actor: Caller, now: datetime) -> ApiKey:
    known = catalogue.load()
    policy = policy_of(draft.project.organization_id)
    bounds = actor.bounds(draft.project)
    name, scopes, description, tags, networks, limit, interval, team, _, _, expires_at = collect(
        [
            lambda: check_name(draft.name),
            lambda: check_scopes(draft.scopes, draft.kind, known),
            lambda: check_description(draft.description),
            lambda: check_tags(draft.tags),
            lambda: None if draft.allowed_ips is None else normalise_networks(draft.allowed_ips),
            lambda: ABSENT if draft.rate_limit is ABSENT else check_limit(draft.rate_limit),
            lambda: check_interval(draft.rotation_interval_days, is_automatic=draft.auto_rotate),
            lambda: check_owner(draft.owner, draft.project.organization_id),
            lambda: _check_place(draft),
            lambda: _check_binding(draft, policy),
            lambda: grant_expiry(bounds, rule_for(policy, draft.kind), draft.expires, now),
        ]
    )
    mode = Mode(draft.environment.mode)
    refuse_excess(
        bounds, scopes=scopes, risks=catalogue.risks(known), project_path=draft.project.ancestors, mode=mode
    )
    allowed_ips = grant_networks(bounds, networks)
    given = grant_limit(bounds, limit, terms.rate_limit)
    if policy.requires_ips_in_production and draft.environment.is_production and not allowed_ips:
        raise Invalid("This organization's production keys need address ranges.", field="allowed_ips")
    return ApiKey(
        id=new_key_id(),
        organization_id=draft.project.organization_id,
        project=draft.project,
        environment=draft.environment,
        kind=draft.kind,
        name=name,
        description=description,
        tags=tags,
        scopes=list(scopes),
        allowed_ips=list(allowed_ips),
        rotation_interval_days=interval,
        auto_rotate=draft.auto_rotate,
        may_rotate_itself=draft.may_rotate_itself,
        approval_bound=draft.approval_bound,
        expires_at=expires_at,
        created_at=now,
        created_by=actor.id,
        updated_at=now,
        person_touched_at=now,
        owner_type=OwnerType.MEMBER if draft.owner.member else OwnerType.TEAM,
        owner_user=draft.owner.member,
        owner_team=team,
        **limit_columns(given),
    )


def _check_binding(draft: Draft, policy: KeyPolicy) -> None:
    governance.check_binding(
        draft.kind,
        approval_rule_for(policy),
        is_bound=draft.approval_bound,
        is_production=draft.environment.is_production,
    )


def _check_place(draft: Draft) -> None:
    if draft.project.archived_at is not None:
        raise Invalid("This project is archived.", field="project")
    if draft.environment.archived_at is not None:
        raise Invalid("This environment is archived.", field="environment")


def check_owner(owner: Owner, organization_id: str) -> str:
    """Return the owning team's name, "" where a member owns the key or nobody is named.

    Raises:
        Invalid: the member is not of this organization, or the team's name is out of bounds (field `owner`).
    """
    if owner.member is None:
        return check_team(owner.team) if owner.team else ""
    if not Membership.objects.filter(organization_id=organization_id, user=owner.member).exists():
        raise Invalid("The owner is not a member of this organization.", field="owner")
    return ""


def _insert(key: ApiKey, now: datetime) -> None:
    """Insert the key; a name that only an expired key still holds is freed first."""
    ApiKey.objects.filter(
        environment=key.environment, name=key.name, ended_at__isnull=True, expires_at__lte=now
    ).update(ended_at=now)
    try:
        with transaction.atomic():
            key.save(force_insert=True)
    except IntegrityError as error:
        if "key_name_unique" in str(error):
            raise NameTaken(field="name") from None
        raise


def insert_secret(key: ApiKey, *, version: int, text: str, now: datetime) -> None:
    """Insert one version of a key's secret: its digest, never the text."""
    KeySecret.objects.create(
        key=key,
        organization_id=key.organization_id,
        version=version,
        digest=peppers.digest(text),
        pepper_version=peppers.newest(),
        hint=secrets.hint(text),
        created_at=now,
        expires_at=key.expires_at,
    )


def _described(key: ApiKey, draft: Draft) -> dict[str, object]:
    return {
        "kind": key.kind,
        "project": key.project_id,
        "environment": draft.environment.slug,
        "scopes": key.scopes,
        "owner": key.owner_user_id or key.owner_team,
        "tags": tag_list(key.tags),
        "allowed_ips": key.allowed_ips,
        "expires_at": key.expires_at,
        "rotation_interval_days": key.rotation_interval_days,
        "auto_rotate": key.auto_rotate,
        "may_rotate_itself": key.may_rotate_itself,
        **({"approval_bound": True} if key.approval_bound else {}),
        "rate_limit": None if key.limit is None else told(key.limit),
    }


def _sealed(key: ApiKey) -> dict[str, str]:
    return {"description": key.description}
