"""No change without its entry: every public service function is run, and must have appended one."""

import base64
import inspect
import io
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property, partial
from types import ModuleType

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from django.db import connection
from django.utils import timezone

from audit import services as audit_services
from audit import tenancy
from audit.models import Delivery, Endpoint, Entry, Export, SupportEnd, SupportSession
from audit.webhooks import expansion
from keys import callers, secret
from keys import services as key_services
from keys.leaks.possession import Held
from keys.listing import Filters
from keys.models import ApiKey, Rotation, Scope, Tier
from keys.services import Changes
from orgs import ids
from orgs import services as org_services
from orgs.models import Membership
from orgs.roles import Risk, Role
from tests import builders, bundles, exports, key_builders, usage_builders
from tests import governance_builders as gov
from tests.api import calls
from tests.api.calls import as_superuser
from tests.db.test_support_sessions import let_lapse

WHY = "Case 4711: a key stopped working"
HOOK = "https://1.1.1.1/hook"
EXPIRY = {
    f"{kind}_{what}_days": 7
    for kind in ("ingestion", "control_plane", "service")
    for what in ("default", "max")
}
POLICY = {**EXPIRY, "ingestion_may_never_expire": False, "requires_ips_in_production": False}
POLICY |= {
    "notice_days": [30],
    "auto_grace_seconds": 60,
    "self_rotation_max_days": 30,
    "leaver_grace_seconds": 60,
    "leaver_action": "disable",
    "leaver_team": "",
    "leak_action": "revoke",
    "approvals_required": "production",
    "approval_max_hours": 8,
    "approval_max_uses": 10,
    "staged_cut_off_at_deadline": True,
}


@dataclass
class World:
    """What the services need, made only where asked for."""

    cast: builders.Cast

    @property
    def actor(self):
        return self.cast.member(self.cast.alice)

    @property
    def caller(self):
        return callers.of_member(self.actor)

    @property
    def stepped_up(self):
        return replace(self.caller, has_stepped_up=True)

    @property
    def filters(self):
        return Filters(organization_id=self.cast.acme.id, search=self.key.id)

    @cached_property
    def root(self):
        return builders.root(self.cast.acme)

    @cached_property
    def project(self):
        return builders.project(self.root)

    @cached_property
    def draft(self):
        return key_services.Draft(
            kind=secret.Kind.CONTROL_PLANE,
            name=builders.unique("key"),
            project=self.root,
            environment=builders.production(self.cast.acme),
            scopes=["keys:read"],
            owner=key_services.Owner(member=self.cast.bob),
        )

    @cached_property
    def key(self) -> ApiKey:
        with tenancy.within(self.cast.acme.id):
            return key_services.create_key(self.draft, actor=self.caller).key

    @cached_property
    def key_of_two(self) -> ApiKey:
        draft = replace(self.draft, scopes=["keys:read", "keys:write"])
        with tenancy.within(self.cast.acme.id):
            return key_services.create_key(draft, actor=self.caller).key

    @property
    def held(self) -> Held:
        return Held(organization_id=self.cast.acme.id, key_id=self.key.id, version=1)

    @cached_property
    def rotation(self) -> Rotation:
        with tenancy.within(self.cast.acme.id):
            return key_services.rotate_key(self.key, actor=self.caller).rotation

    def ended_rotation(self) -> Rotation:
        """Return one whose time came, of which nobody has told yet."""
        as_superuser("UPDATE keys_rotation SET grace_ends_at = now() WHERE id = %s", self.rotation.id)
        return self.rotation

    @cached_property
    def scope(self) -> Scope:
        with tenancy.everywhere(tenancy.Reason.ADMIN):
            return key_services.create_scope(self.scope_name(), self.scope_draft(), actor=builders.OPERATOR)

    @cached_property
    def endpoint(self) -> Endpoint:
        with tenancy.within(self.cast.acme.id):
            return audit_services.create_endpoint(
                self.cast.acme.id, HOOK, ["project.*"], actor=self.actor
            ).endpoint

    @property
    def staff(self):
        return builders.as_actor(self.cast.dave)

    def visit(self) -> SupportSession:
        return audit_services.open_visit(self.cast.acme.id, actor=self.staff, reason=WHY, minutes=15)

    def search(self) -> SupportSession:
        return audit_services.open_search(actor=self.staff, reason=WHY, minutes=15)

    def lapsed_visit(self) -> SupportSession:
        made = self.visit()
        let_lapse(made)
        return made

    def disabled_endpoint(self) -> Endpoint:
        with tenancy.within(self.cast.acme.id):
            return audit_services.disable_endpoint(self.endpoint, actor=self.actor)

    def delivery(self) -> Delivery:
        endpoint = self.endpoint
        builders.project(self.root)
        expansion.expand_one(self.cast.acme.id, endpoint.id)
        with tenancy.within(self.cast.acme.id):
            return Delivery.objects.select_related("endpoint").get()

    def export(self) -> Export:
        return exports.request(self.cast.acme.id, actor=self.actor)

    def written_export(self) -> tuple[Export, audit_services.ExportMade]:
        made = self.export()
        as_superuser("UPDATE audit_export SET state = 'running', claim = 'mine' WHERE id = %s", made.id)
        return made, audit_services.ExportMade(claim="mine", entries=0, size=0, sha256="00")

    def scope_name(self) -> str:
        return f"{builders.unique('scope')}:read"[:60]

    def scope_draft(self, description: str = "") -> key_services.ScopeDraft:
        return key_services.ScopeDraft(description=description, risk=Risk.READ, kinds=[secret.Kind.SERVICE])

    @cached_property
    def tier(self) -> Tier:
        with tenancy.everywhere(tenancy.Reason.ADMIN):
            return key_services.create_tier(builders.unique("t"), self.tier_draft(), actor=builders.OPERATOR)

    def tier_draft(self, requests: int = 5) -> key_services.TierDraft:
        return key_services.TierDraft(name="Tier", requests=requests, window_seconds=60)

    @cached_property
    def bound_key(self) -> ApiKey:
        return gov.bound_key(self.cast.acme, self.cast.bob).key

    @cached_property
    def service_key(self) -> ApiKey:
        return gov.bound_key(self.cast.acme, self.cast.bob, approval_bound=False).key

    @cached_property
    def approval(self):
        return gov.request(self.bound_key)

    def ended_approval(self):
        made = self.approval
        calls.as_superuser(
            "UPDATE keys_approval SET requested_at = now() - interval '2 hours', valid_until = now() WHERE id = %s",
            made.id,
        )
        return made

    def used_approval(self):
        made = gov.granted(self.cast.acme, self.bound_key, self.cast.alice)
        calls.as_superuser(
            "INSERT INTO keys_approvaluse (approval_id, number, organization_id, key_id, at, request_id, verifier_id)"
            " VALUES (%s, 1, %s, %s, now(), '', '')",
            made.id,
            made.organization_id,
            made.key_id,
        )
        return made

    def disabled_key(self) -> ApiKey:
        with tenancy.within(self.cast.acme.id):
            return key_services.disable_key(self.key, actor=self.caller)

    def ending_key(self) -> ApiKey:
        with tenancy.within(self.cast.acme.id):
            ends = Changes(expires=timezone.now() + timedelta(days=1))
            return key_services.change_key(self.key, ends, actor=self.caller)

    def public_key(self) -> str:
        return base64.b64encode(X25519PrivateKey.generate().public_key().public_bytes_raw()).decode()

    def recipient(self):
        return key_builders.recipient(self.cast.acme, self.cast.alice).recipient

    def lapsed_recipient(self):
        heir = builders.person("Heir")
        heirs = builders.join(heir, self.cast.acme, Role.ADMIN)
        found = key_builders.recipient(self.cast.acme, heir).recipient
        with tenancy.within(self.cast.acme.id):
            org_services.change_role(heirs, Role.VIEWER, actor=self.actor)
        return found

    def membership(self) -> Membership:
        with tenancy.within(self.cast.acme.id):
            return Membership.objects.get(user=self.cast.bob)

    def invited(self) -> org_services.Invited:
        return org_services.invite_member(
            f"{builders.unique('new')}@example.com", Role.VIEWER, actor=self.actor
        )

    def plan(self):
        """Make one: every organization of the other tests has the standard one."""
        return org_services.create_plan("Plan", actor=self.actor, slug=builders.unique("p"))

    def suspended(self):
        org_services.suspend_organization(self.cast.elsewhere, actor=self.actor)
        return self.cast.elsewhere

    def disabled_user(self):
        org_services.disable_user(self.cast.bob, actor=self.actor)
        return self.cast.bob


def _accept(w: World) -> object:
    user = builders.person("Newcomer")
    invited = org_services.invite_member(user.email, Role.VIEWER, actor=w.actor)
    digest = bytes(invited.invitation.digest)
    return partial(org_services.accept_invitation, digest, user, actor=builders.as_actor(user))


def _join(w: World) -> object:
    digest = bytes(w.invited().invitation.digest)
    actor = builders.Actor(id=ids.new("usr"))
    return partial(
        org_services.join_with_new_account, digest, actor=actor, name="New", password="long enough for them"
    )


def _bulk(w: World) -> object:
    change = partial(key_services.revoke_key, actor=w.caller)
    return partial(key_services.change_many, [w.key], change, actor=w.caller, organization_id=w.cast.acme.id)


def _due_network(w: World) -> object:
    usage_builders.calls(
        w.key, [{"ip": "203.0.113.9", "at": usage_builders.ago(minutes=1)}, {"ip": "192.0.2.4"}]
    )
    usage_builders.learned()
    return partial(key_services.record_first_networks, w.cast.acme.id, actor=builders.OPERATOR)


def _returned(w: World) -> object:
    at = "disabled_until = now() - interval '1 second'"
    as_superuser(f"UPDATE keys_apikey SET {at} WHERE id = %s", w.key.id)
    return partial(key_services.record_returns, w.cast.acme.id, actor=builders.OPERATOR)


def _handed_out(w: World) -> object:
    bundles.sign(w.cast.acme.id)
    return lambda: audit_services.hand_out_bundle(w.cast.acme.id, actor=w.actor).close()


# Each prepares what it needs and returns the call that must record.
ORGS = {
    "accept_invitation": _accept,
    "appoint_owner": lambda w: partial(
        org_services.appoint_owner, w.cast.acme, builders.person("Heir"), actor=builders.OPERATOR
    ),
    "archive_environment": lambda w: partial(
        org_services.archive_environment, builders.environment(w.cast.acme), actor=w.actor
    ),
    "archive_project": lambda w: partial(org_services.archive_project, w.project, actor=w.actor),
    "change_organization": lambda w: partial(
        org_services.change_organization, w.cast.acme, actor=w.actor, name="New", slug=builders.unique("s")
    ),
    "change_overrides": lambda w: partial(
        org_services.change_overrides, w.cast.acme, {"key_cap": 5}, actor=builders.OPERATOR
    ),
    "change_plan": lambda w: partial(
        org_services.change_plan, w.plan(), actor=w.actor, name=builders.unique("Plan"), description=""
    ),
    "change_role": lambda w: partial(org_services.change_role, w.membership(), Role.VIEWER, actor=w.actor),
    "change_staff": lambda w: partial(
        org_services.change_staff, w.cast.bob, actor=w.actor, is_superuser=False, staff_role="support"
    ),
    "create_environment": lambda w: partial(builders.environment, w.cast.acme),
    "create_organization": lambda _: builders.organization,
    "create_plan": lambda w: partial(
        org_services.create_plan, "Plan", actor=w.actor, slug=builders.unique("p")
    ),
    "create_project": lambda w: partial(builders.project, w.root),
    "create_user": lambda _: builders.person,
    "disable_user": lambda w: partial(org_services.disable_user, w.cast.bob, actor=w.actor),
    "enable_user": lambda w: partial(org_services.enable_user, w.disabled_user(), actor=w.actor),
    "invite_member": lambda w: w.invited,
    "join_with_new_account": _join,
    "remove_member": lambda w: partial(org_services.remove_member, w.membership(), actor=w.actor),
    "rename_environment": lambda w: partial(
        org_services.rename_environment, builders.environment(w.cast.acme), "New", actor=w.actor
    ),
    "rename_project": lambda w: partial(
        org_services.rename_project, w.project, builders.unique("P"), actor=w.actor
    ),
    "resume_organization": lambda w: partial(org_services.resume_organization, w.suspended(), actor=w.actor),
    "set_password": lambda w: partial(
        org_services.set_password, w.cast.bob, "another long password", actor=w.actor
    ),
    "set_project_scopes": lambda w: partial(
        org_services.set_project_scopes, w.project, ["keys:read"], actor=w.actor
    ),
    "start_session": lambda w: partial(org_services.start_session, w.cast.bob, actor=w.actor),
    "suspend_organization": lambda w: partial(
        org_services.suspend_organization, w.cast.elsewhere, actor=w.actor
    ),
    "withdraw_invitation": lambda w: partial(
        org_services.withdraw_invitation, w.invited().invitation, actor=w.actor
    ),
}
KEYS = {
    "break_glass": lambda w: partial(
        key_services.break_glass, w.filters, actor=w.stepped_up, reason="It was stolen"
    ),
    "advance_rotation": lambda w: partial(
        key_services.advance_rotation, w.ended_rotation().id, actor=builders.OPERATOR
    ),
    "bind_key": lambda w: partial(key_services.bind_key, w.service_key, actor=w.caller),
    "change_key": lambda w: partial(
        key_services.change_key, w.key, key_services.Changes(description="new"), actor=w.caller
    ),
    "change_many": _bulk,
    "change_policy": lambda w: partial(
        key_services.change_policy, key_services.PolicyChange(**POLICY), actor=w.actor
    ),
    "change_scope": lambda w: partial(
        key_services.change_scope, w.scope, w.scope_draft("new"), actor=builders.OPERATOR
    ),
    "change_tier": lambda w: partial(
        key_services.change_tier, w.tier, w.tier_draft(6), actor=builders.OPERATOR
    ),
    "cancel_rotation": lambda w: partial(key_services.cancel_rotation, w.rotation, actor=w.caller),
    "complete_rotation": lambda w: partial(key_services.complete_rotation, w.rotation, actor=w.caller),
    "create_key": lambda w: partial(key_services.create_key, w.draft, actor=w.caller),
    "create_scope": lambda w: partial(
        key_services.create_scope, w.scope_name(), w.scope_draft(), actor=builders.OPERATOR
    ),
    "create_tier": lambda w: partial(
        key_services.create_tier, builders.unique("t"), w.tier_draft(), actor=builders.OPERATOR
    ),
    "deny_approval": lambda w: partial(key_services.deny_approval, w.approval, actor=w.caller),
    "disable_key": lambda w: partial(key_services.disable_key, w.key, actor=w.caller),
    "drop_scopes": lambda w: partial(key_services.drop_scopes, w.key_of_two, ["keys:read"], actor=w.caller),
    "enable_key": lambda w: partial(key_services.enable_key, w.disabled_key(), actor=w.caller),
    "export_keys": lambda w: partial(
        key_services.export_keys,
        [["key_x"]],
        io.StringIO(),
        header=["id"],
        filters={},
        actor=w.actor,
    ),
    "burn_secret": lambda w: partial(key_services.burn_secret, w.held, actor=builders.OPERATOR),
    "record_first_networks": _due_network,
    "record_returns": _returned,
    "report_leak": lambda w: partial(key_services.report_leak, w.held, actor=builders.OPERATOR),
    "refuse_break_glass": lambda w: partial(
        key_services.refuse_break_glass, w.cast.acme.id, actor=w.caller, cause="role"
    ),
    "grant_approval": lambda w: partial(key_services.grant_approval, w.approval, actor=w.caller),
    "record_approval_end": lambda w: partial(key_services.record_approval_end, w.ended_approval().id),
    "record_approval_uses": lambda w: partial(key_services.record_approval_uses, w.used_approval().id),
    "record_execution": lambda w: partial(
        key_services.record_execution,
        key_services.ExecutionDraft(
            execution="run",
            parameters_digest=gov.digest(),
            steps=[],
            results=[],
            approval=gov.granted(w.cast.acme, w.bound_key, w.cast.alice).id,
        ),
        actor=gov.of_key(w.bound_key),
    ),
    "request_approval": lambda w: partial(
        key_services.request_approval, gov.draft(w.bound_key), actor=gov.of_key(w.bound_key)
    ),
    "revoke_key": lambda w: partial(key_services.revoke_key, w.key, actor=w.caller),
    "rotate_key": lambda w: partial(key_services.rotate_key, w.key, actor=w.caller),
    "register_recipient": lambda w: partial(
        key_services.register_recipient, "vault", w.public_key(), actor=w.actor
    ),
    "confirm_recipient": lambda w: partial(
        key_services.confirm_recipient, w.lapsed_recipient(), actor=w.actor
    ),
    "remove_recipient": lambda w: partial(key_services.remove_recipient, w.recipient(), actor=w.actor),
    "tell_of_expiry": lambda w: partial(key_services.tell_of_expiry, w.cast.acme.id, [w.ending_key().id]),
    "settle_keys_of_leaver": lambda w: partial(
        key_services.settle_keys_of_leaver, w.cast.acme.id, w.key.owner_user_id, grants=(), actor=w.actor
    ),
}
AUDIT = {
    "complete_export": lambda w: partial(audit_services.complete_export, *w.written_export()),
    "remove_export": lambda w: partial(audit_services.remove_export, w.export(), actor=w.actor),
    "request_export": lambda w: w.export,
    "change_endpoint": lambda w: partial(
        audit_services.change_endpoint, w.endpoint, audit_services.Changes(acts=["*"]), actor=w.actor
    ),
    "create_endpoint": lambda w: partial(
        audit_services.create_endpoint, w.cast.acme.id, HOOK, ["key.*"], actor=w.actor
    ),
    "disable_endpoint": lambda w: partial(audit_services.disable_endpoint, w.endpoint, actor=w.actor),
    "erase_person": lambda w: partial(
        audit_services.erase_person, w.cast.acme.id, w.cast.bob.id, actor=w.actor
    ),
    "enable_endpoint": lambda w: partial(
        audit_services.enable_endpoint, w.disabled_endpoint(), actor=w.actor
    ),
    "hand_out_bundle": _handed_out,
    "remove_endpoint": lambda w: partial(audit_services.remove_endpoint, w.endpoint, actor=w.actor),
    "resend_delivery": lambda w: partial(audit_services.resend_delivery, w.delivery(), actor=w.actor),
    "resend_range": lambda w: partial(
        audit_services.resend_range,
        w.delivery().endpoint,
        timezone.now() - timedelta(hours=1),
        timezone.now() + timedelta(hours=1),
        actor=w.actor,
    ),
    "rotate_endpoint_secret": lambda w: partial(
        audit_services.rotate_endpoint_secret, w.endpoint, actor=w.actor
    ),
    "send_test_event": lambda w: partial(audit_services.send_test_event, w.endpoint, actor=w.actor),
    "open_visit": lambda w: partial(
        audit_services.open_visit, w.cast.acme.id, actor=w.staff, reason=WHY, minutes=15
    ),
    "open_search": lambda w: partial(audit_services.open_search, actor=w.staff, reason=WHY, minutes=15),
    "close_support": lambda w: partial(audit_services.close_support, w.visit(), actor=w.staff),
    "close_all_support": lambda w: partial(
        audit_services.close_all_support, w.visit().user_id, why=SupportEnd.SIGNED_OUT
    ),
    "close_lapsed_support": lambda w: w.lapsed_visit() and audit_services.close_lapsed_support,
    "record_page": lambda w: partial(
        audit_services.record_page, w.visit().id, w.cast.acme.id, actor=w.staff, page="keys"
    ),
    "record_search": lambda w: partial(
        audit_services.record_search, w.search(), "who=x", actor=w.staff, found={}
    ),
    "tell_of_search": lambda w: partial(
        audit_services.tell_of_search, w.search(), w.cast.acme.id, actor=w.staff, entries=1
    ),
}
SUPPORT = {name for name in AUDIT if name.endswith(("_support", "_visit", "_search"))}
EVERYWHERE = {"create_scope", "change_scope", "create_tier", "change_tier"} | SUPPORT
WITHIN = set(KEYS | AUDIT) - EVERYWHERE


def public_functions(module: ModuleType) -> set[str]:
    return {name for name in module.__all__ if inspect.isfunction(getattr(module, name))}


def entries() -> int:
    with tenancy.everywhere(tenancy.Reason.COMMAND):
        return Entry.objects.count()


@pytest.mark.parametrize(
    ("module", "table"), [(org_services, ORGS), (key_services, KEYS), (audit_services, AUDIT)]
)
def test_every_service_has_its_row_here(module, table):
    assert public_functions(module) == set(table)


@pytest.mark.parametrize("name", sorted(ORGS | KEYS | AUDIT))
def test_it_records(name):
    world = World(builders.cast())
    call = (ORGS | KEYS | AUDIT)[name](world)
    before = entries()
    if name in WITHIN:
        with tenancy.within(world.cast.acme.id):
            call()
    elif name in EVERYWHERE:
        with tenancy.everywhere(tenancy.Reason.ADMIN):
            call()
    else:
        call()
    assert entries() > before


@pytest.mark.parametrize("name", sorted(KEYS | AUDIT))
def test_without_its_entry_there_is_no_change(name, monkeypatch):
    """The ledger breaks just before COMMIT: the rows must be as they were."""
    world = World(builders.cast())
    call = (KEYS | AUDIT)[name](world)

    def broken(*_: object) -> None:
        raise connection.Database.OperationalError("the ledger is out of reach")

    before = _rows()
    monkeypatch.setattr("audit.ledger._append", broken)
    with pytest.raises(Exception, match="out of reach"):  # noqa: SIM117
        with (
            tenancy.everywhere(tenancy.Reason.ADMIN)
            if name in EVERYWHERE
            else tenancy.within(world.cast.acme.id)
        ):
            call()
    assert _rows() == before


def _rows() -> list[object]:
    """Return a digest of every row that these services write."""
    tables = (
        "apikey",
        "keysecret",
        "rotation",
        "rotationtarget",
        "keypolicy",
        "scope",
        "term",
        "tier",
        "leak",
        "incident",
        "incidentkey",
        "keynetwork",
        "recipient",
        "notice",
        "due",
        "approval",
        "approvaluse",
        "execution",
    )
    made = ("audit_export", "audit_exportpart")
    hooks = (
        "audit_endpoint",
        "audit_endpointsecret",
        "audit_delivery",
        "audit_supportsession",
        "procrastinate_jobs",
    )
    with tenancy.everywhere(tenancy.Reason.COMMAND), connection.cursor() as cursor:
        found = []
        for table in (*(f"keys_{table}" for table in tables), *hooks, *made):
            cursor.execute(f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} t")
            found.append(cursor.fetchone())
        return found
