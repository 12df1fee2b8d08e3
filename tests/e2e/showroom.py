"""An organization that has everything: what the browser looks at to see whether every page holds."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.utils import timezone

from audit import services as audit_services
from audit import tenancy
from audit.webhooks import claims
from audit.webhooks.sending import Answer, Outcome
from keys import callers, services
from keys.secret import Kind
from keys.services import Owner, ScopeDraft
from orgs import services as orgs_services
from orgs.models import Invitation, Organization, Project, User
from orgs.roles import Risk, Role
from tests import builders, exports, key_builders, usage_builders
from tests.e2e import steps

RTL = "مفتاح الإنتاج"
LONG = "Network operations of the north-eastern region, second shift, and everybody who stands in for it at nights"
LONGEST_KEY = "replay-runner-of-the-north-eastern-region-second-shift-for-good"
SCOPES = tuple(
    f"showroom-{number}:{action}" for number in range(10) for action in ("read", "write", "delete")
)
LONG_PATH = "GET /v1/organizations/{organization}/projects/{project}/incidents/{incident}/timeline"
CALLS = [
    {
        "at": usage_builders.ago(hours=number),
        "calls": 10**number,
        "code": code,
        "endpoint": endpoint,
        "region": region,
        "ip": "2001:db8:85a3:8d3:1319:8a2e:370:7348",
        "user_agent": RTL,
    }
    for number, (code, endpoint, region) in enumerate(
        (
            ("VALID", LONG_PATH, "a-region-of-a-rather-long-name"),
            ("RATE_LIMITED", "", ""),
            ("INSUFFICIENT_SCOPE", RTL, "eu-west-1"),
            ("VALID", "/v1/incidents", "us-east-1"),
        )
    )
]
RISKS = {"read": Risk.READ, "write": Risk.WRITE, "delete": Risk.ADMIN}


@dataclass(frozen=True, kw_only=True)
class Showroom:
    """The organization, its owner, an empty one of the same owner, and what its pages are called by."""

    where: Organization
    empty: Organization
    owner: User
    viewer: User
    edge: Project
    rotated: str
    revoked: str
    disabled: str
    full: str
    invitation: Invitation
    token: str
    membership: str
    environment: str


def webhook(room: Showroom) -> tuple[str, str]:
    """Make a webhook that fails, with a long description and a stranger's answer; return its id and a delivery's."""
    alice, now = builders.member(room.owner, room.where), timezone.now()
    with tenancy.within(room.where.id):
        made = audit_services.create_endpoint(
            room.where.id,
            "https://1.1.1.1/hook",
            ["key.*", "rotation.*"],
            actor=alice,
            description=LONG[:200],
        ).endpoint
        sent = audit_services.send_test_event(made, actor=alice)
        claims.record(
            claims.Claimed(id=sent.id, claim="", organization_id=room.where.id, endpoint_id=made.id),
            now,
            Answer(
                outcome=Outcome.REFUSED, status=500, detail="Only an answer of 2xx counts.", text=RTL * 20
            ),
        )
    return made.id, sent.id


def exports_of(room: Showroom) -> None:
    """Let there be an export in each state, narrowed by what is long."""
    actor = builders.member(room.owner, room.where)
    narrowed = {"q": LONG, "act": "key.created", "who": actor.id}
    exports.make(exports.request(room.where.id, "csv", actor=actor, filters=narrowed))
    running, failed, _ = (
        exports.request(room.where.id, each, actor=actor) for each in ("jsonl", "bundle", "csv")
    )
    with steps.superuser() as connection:
        connection.execute(
            "UPDATE audit_export SET state = 'running', claim = 'x', done = 3, total = 7 WHERE id = %s",
            [running.id],
        )
        connection.execute(
            "UPDATE audit_export SET state = 'failed', reason = %s WHERE id = %s", [LONG, failed.id]
        )


def erasures(room: Showroom) -> tuple[str, str]:
    """Return the ids of an erasure that goes on and of one that is done."""
    actor = builders.member(room.owner, room.where)
    going, ended = (
        audit_services.erase_person(room.where.id, f"usr_gone{number}", actor=actor).id for number in range(2)
    )
    with steps.superuser() as connection:
        connection.execute("UPDATE audit_erasure SET finished_at = NULL WHERE id = %s", [going])
    return going, ended


def build() -> Showroom:
    """Make it by the services."""
    _catalogue()
    owner, viewer = _person(f"Ålice {RTL}"), _person("Vera")
    where = builders.organization(f"Acme {RTL}", owner=owner)
    empty = builders.organization("Zero", owner=owner)
    seen = builders.join(viewer, where, Role.VIEWER)
    builders.join(_person(LONG[:100]), where, Role.DEVELOPER)
    edge = builders.project(builders.root(where), LONG[:100])
    builders.project(builders.project(edge, RTL), "Third level")
    lab = builders.environment(where)
    made = _keys(where, owner, edge)
    key_builders.create(where, owner, name="in-lab", environment=lab)
    invited = orgs_services.invite_member(
        f"{builders.unique('a.rather.long.address.of.somebody')}@subdomain.example.com",
        Role.ADMIN,
        actor=builders.member(owner, where),
    )
    return Showroom(
        where=where,
        empty=empty,
        owner=owner,
        viewer=viewer,
        edge=edge,
        invitation=invited.invitation,
        token=invited.token,
        membership=seen.id,
        environment=lab.id,
        **made,
    )


def _person(name: str) -> User:
    email = f"{builders.unique('somebody')}@example.com"
    return orgs_services.create_user(
        email,
        actor=builders.OPERATOR,
        name=name,
        password=builders.PASSWORD,
        staff_role="",
        is_superuser=False,
    )


def _catalogue() -> None:
    for name in SCOPES:
        with tenancy.everywhere(tenancy.Reason.COMMAND):
            draft = ScopeDraft(
                description=f"{name}: {LONG[:60]}", risk=RISKS[name.partition(":")[2]], kinds=tuple(Kind)[1:]
            )
            services.create_scope(name, draft, actor=builders.OPERATOR)


def _keys(where: Organization, owner: User, edge: Project) -> dict[str, str]:
    """Make a key of every state; return the ids that pages are asked for."""

    def create(name: str, **changes: object) -> services.Created:
        return key_builders.create(where, owner, name=name, **changes)

    now, actor = datetime.now(UTC), callers.of_member(builders.member(owner, where))
    create(LONGEST_KEY, owner=Owner(member=owner), project=edge)
    create("soon", expires=now + timedelta(hours=5))
    create("sender", kind=Kind.INGESTION, scopes=["ingest:write"], expires=None)
    over, old = create("over", expires=now + timedelta(hours=5)), create("old")
    steps.age(over.key.id, expires_at=now - timedelta(hours=1))
    steps.age(old.key.id, created_at=now - timedelta(days=120))
    full = create(
        "full",
        scopes=SCOPES,
        owner=Owner(team=RTL),
        description=f"{LONG}\n{RTL} {LONG * 5}",
        tags={f"tag-{number}": "v" * 40 for number in range(20)},
        allowed_ips=[f"2001:db8:{number:x}::/48" for number in range(12)],
        rotation_interval_days=30,
    )
    rotated, revoked, disabled = create("rotated"), create("revoked"), create("disabled")
    usage_builders.calls(full.key, CALLS)
    usage_builders.unknown(where, "2001:db8:85a3:800::/56", number=1_000_000)
    key_builders.verify(full.secret, where)
    key_builders.verify(rotated.secret, where)
    with tenancy.within(where.id):
        services.rotate_key(rotated.key, actor=actor)
        services.revoke_key(revoked.key, actor=actor, reason="leaked", note=f"{LONG} {RTL}")
        services.disable_key(disabled.key, actor=actor)
    return {
        "full": full.key.id,
        "rotated": rotated.key.id,
        "revoked": revoked.key.id,
        "disabled": disabled.key.id,
    }
