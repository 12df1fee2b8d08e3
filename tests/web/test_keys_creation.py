"""New key, and the secret that is shown once."""

import threading
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from django.db import connections

from audit import tenancy
from keys.models import IdempotencyRecord
from keys.secret import Kind
from orgs import services as orgs_services
from orgs.models import Session
from orgs.roles import Role
from tests import builders, key_builders
from tests import governance_builders as gov
from tests.key_builders import count, entries, form, secrets_in


@pytest.fixture
def alice(cast):
    return builders.signed_in(cast.alice)


def made(response, cast):
    """Return the key that an answer shows the secret of."""
    assert response.status_code == 200, unescape(response.content.decode())
    key_id = response.context["key"].id
    return key_builders.read(key_id, cast.acme)


class TestForm:
    def test_offers_kinds_places_and_scopes(self, alice, cast):
        page = unescape(alice.get("/keys/new").content.decode())
        for words in ("Ingestion", "Control plane", "Service", "Production", "incidents:read", "Acme"):
            assert words in page

    @pytest.mark.parametrize("who", ["carol", "vera"])
    def test_a_read_only_role_is_refused(self, cast, who):
        client = builders.signed_in(getattr(cast, who))
        assert client.get("/keys/new").status_code == 403
        assert client.post("/keys/new", {}).status_code == 403
        assert client.post("/keys/new/preview", {}).status_code == 403

    def test_only_forms_and_their_submissions(self, alice):
        assert alice.put("/keys/new").status_code == 405
        assert alice.get("/keys/new/preview").status_code == 405

    def test_strangers_sign_in_first(self, client):
        assert client.get("/keys/new").status_code == 302

    def test_projects_are_those_where_one_may_create(self, cast):
        person, below = builders.person("Pat"), builders.project(builders.root(cast.acme), "Just mine")
        builders.join(person, cast.acme, Role.DEVELOPER, below)
        page = unescape(builders.signed_in(person).get("/keys/new").content.decode())
        assert below.id in page
        assert f'value="{builders.root(cast.acme).id}"' not in page

    def test_what_the_role_cannot_grant_is_barred_with_the_reason(self, cast):
        page = unescape(builders.signed_in(cast.bob).get("/keys/new").content.decode())
        box = page[page.index('value="admin:projects"') :][:400]
        assert "disabled" in box[: box.index(">")]
        assert "Your role, developer, can't grant it." in box

    def test_break_glass_is_an_owners(self, cast):
        page = unescape(builders.signed_in(cast.anna).get("/keys/new").content.decode())
        assert "Only an owner can grant it." in page[page.index('value="keys:breakglass"') :][:400]

    def test_without_scripts_no_kind_bars_a_scope(self, alice, cast):
        response = alice.post(
            "/keys/new", form(cast.acme, alice, kind="ingestion", scopes=["incidents:read"])
        )
        page = unescape(response.content.decode())
        box = page[page.index('value="incidents:read"') :]
        assert "disabled" not in box[: box.index(">")]
        assert "Only control plane and service keys can carry it." in box[:600]


class TestCreate:
    def test_shows_the_secret_and_records_one_entry(self, alice, cast):
        before = entries(cast.acme)
        response = alice.post("/keys/new", form(cast.acme, alice, name="shown-once"))
        key = made(response, cast)
        (secret,) = secrets_in(response)
        assert key_builders.verify(secret, cast.acme) == "VALID"
        assert response["Cache-Control"] == "no-store"
        gained = entries(cast.acme)[len(before) :]
        assert [(entry["act"], entry["actor"], entry["data"]["target"]) for entry in gained] == [
            ("key.created", cast.alice.id, key.id)
        ]
        assert secret not in str(gained)

    def test_the_secret_is_in_no_other_answer_nor_kept(self, alice, cast):
        response = alice.post("/keys/new", form(cast.acme, alice))
        key = made(response, cast)
        (secret,) = secrets_in(response)
        for path in ("", "/access", "/edit", "/rotate", "/revoke"):
            assert secret not in alice.get(f"/keys/{key.id}{path}").content.decode()
        assert secret not in alice.get("/keys/new").content.decode()
        assert secret not in str(dict(alice.session.items()))
        assert secret not in str(alice.cookies)
        with tenancy.within(cast.acme.id):
            assert secret not in str(list(IdempotencyRecord.objects.values_list("answer", flat=True)))
        with tenancy.everywhere(tenancy.Reason.COMMAND):
            assert secret not in str(list(Session.objects.values()))

    def test_takes_every_field(self, alice, cast):
        last_day = datetime.now(UTC).date() + timedelta(days=20)
        response = alice.post(
            "/keys/new",
            form(
                cast.acme,
                alice,
                name="all-fields",
                description="Line one\r\nand two",
                owner="member",
                owner_member=cast.bob.id,
                scopes=["incidents:read", "incidents:write"],
                expires="custom",
                expires_on=last_day.isoformat(),
                allowed_ips="203.0.113.0/24\r\n2001:db8::/32",
                tags="team=noc\r\ncost-center = 4711",
                rotation_interval_days="30",
                auto_rotate="on",
            ),
        )
        key = made(response, cast)
        assert key.auto_rotate
        assert (key.name, key.description) == ("all-fields", "Line one\nand two")
        assert key.owner_user == cast.bob
        assert key.scopes == ["incidents:read", "incidents:write"]
        assert key.expires_at == datetime.combine(last_day, datetime.min.time(), UTC) + timedelta(days=1)
        assert key.allowed_ips == ["203.0.113.0/24", "2001:db8::/32"]
        assert key.tags == {"team": "noc", "cost-center": "4711"}
        assert (key.rotation_interval_days, key.may_rotate_itself) == (30, True)

    def test_a_box_left_empty_is_off(self, alice, cast):
        data = form(cast.acme, alice)
        del data["may_rotate_itself"]
        key = made(alice.post("/keys/new", data), cast)
        assert (key.may_rotate_itself, key.auto_rotate) == (False, False)

    def test_auto_rotation_needs_an_interval(self, alice, cast):
        before = count(cast.acme)
        response = alice.post("/keys/new", form(cast.acme, alice, auto_rotate="on"))
        assert response.status_code == 422
        assert list(response.context["form"].errors) == ["auto_rotate"]
        assert count(cast.acme) == before

    def test_it_says_to_whom_a_new_secret_goes(self, cast):
        owner = builders.person("Otto")
        where = builders.organization("Sealed", owner=owner)
        client = builders.signed_in(owner)
        assert "No recipient key is registered yet" in client.get("/keys/new").content.decode()
        key_builders.recipient(where, owner, "vault-production")
        assert "sealed to vault-production" in client.get("/keys/new").content.decode()

    def test_an_empty_name_is_suggested(self, alice, cast):
        below = builders.project(builders.root(cast.acme), "Wall Display")
        key = made(alice.post("/keys/new", form(cast.acme, alice, below, name="")), cast)
        assert key.name == "wall-display-production"

    def test_ingestion_may_never_expire(self, alice, cast):
        data = form(cast.acme, alice, kind="ingestion", scopes=["ingest:write"], expires="never")
        key = made(alice.post("/keys/new", data), cast)
        assert (key.kind, key.expires_at) == (Kind.INGESTION, None)

    @pytest.mark.parametrize(
        ("changes", "field", "words"),
        [
            ({"kind": ""}, "kind", "required"),
            ({"environment": ""}, "environment", "required"),
            ({"environment": "env_" + "a" * 20}, "environment", "valid choice"),
            ({"project": "prj_" + "a" * 20}, "project", "valid choice"),
            ({"name": "No Way"}, "name", "lower-case"),
            ({"scopes": []}, "scopes", "at least one"),
            ({"kind": "ingestion"}, "scopes", "can't carry incidents:read"),
            ({"kind": "service", "expires": "90"}, "expires", "within 30 days"),
            ({"expires": "never"}, "expires", "must expire"),
            ({"expires": "custom"}, "expires_on", "Choose the date"),
            ({"allowed_ips": "10.0.0.0/8\n10.0.0.1/8"}, "allowed_ips", "Line 2: There are host bits set"),
            ({"tags": "team"}, "tags", "write name=value"),
            ({"tags": "Team=noc"}, "tags", "A tag's name"),
            ({"rotation_interval_days": "400"}, "rotation_interval_days", "1 to 365"),
            ({"owner": "member", "owner_member": ""}, "owner_member", "Choose the member"),
            ({"owner": "team", "owner_team": ""}, "owner_team", "Name the team"),
            ({"description": "\x00"}, "description", "Null"),
        ],
    )
    def test_an_error_stands_at_its_field(self, alice, cast, changes, field, words):
        before = entries(cast.acme)
        response = alice.post("/keys/new", form(cast.acme, alice, **changes))
        assert response.status_code == 422
        errors = response.context["form"].errors
        assert list(errors) == [field]
        assert words in " ".join(errors[field])
        assert unescape(response.content.decode()).count(errors[field][0]) >= 2, "at the field and on top"
        assert entries(cast.acme) == before

    def test_what_was_typed_is_kept(self, alice, cast):
        typed = form(cast.acme, alice, name="No Way", tags="team=noc", description="A < B")
        page = alice.post("/keys/new", typed).content.decode()
        for value in ("No Way", "team=noc", "A &lt; B", typed["token"]):
            assert value in page

    def test_several_errors_are_shown_at_once(self, alice, cast):
        data = form(cast.acme, alice, allowed_ips="x", expires="never", rotation_interval_days="0")
        errors = alice.post("/keys/new", data).context["form"].errors
        assert set(errors) == {"allowed_ips", "expires", "rotation_interval_days"}
        data = form(cast.acme, alice, name="No Way", tags="x", scopes=[])
        assert set(alice.post("/keys/new", data).context["form"].errors) == {"name", "tags", "scopes"}

    def test_a_taken_name_says_so_at_the_name(self, alice, cast):
        alice.post("/keys/new", form(cast.acme, alice, name="taken"))
        response = alice.post("/keys/new", form(cast.acme, alice, name="taken"))
        assert list(response.context["form"].errors) == ["name"]

    def test_the_policy_may_ask_for_addresses_in_production(self, alice, cast):
        owner = builders.person("Olga")
        where = builders.organization("Strict", owner=owner)
        client = builders.signed_in(owner)
        policy = client.get("/settings/policies").context["form"].initial
        client.post("/settings/policies", {**policy, "requires_ips_in_production": "on"})
        response = client.post("/keys/new", form(where, client))
        assert list(response.context["form"].errors) == ["allowed_ips"]

    def test_nobody_grants_more_than_their_role(self, cast):
        bob = builders.signed_in(cast.bob)
        response = bob.post("/keys/new", form(cast.acme, bob, scopes=["admin:projects"]))
        assert response.context["form"].errors["scopes"] == ["You can't grant admin:projects."]

    def test_a_project_out_of_reach_is_no_choice(self, cast):
        person, below = builders.person("Pit"), builders.project(builders.root(cast.acme))
        builders.join(person, cast.acme, Role.DEVELOPER, below)
        client = builders.signed_in(person)
        response = client.post("/keys/new", form(cast.acme, client))
        assert list(response.context["form"].errors) == ["project"]

    def test_a_member_of_another_organization_is_no_owner(self, alice, cast):
        data = form(cast.acme, alice, owner="member", owner_member=cast.mallory.id)
        assert "owner_member" in alice.post("/keys/new", data).context["form"].errors


class TestRuleOfApprovals:
    """Service keys that the organization's policy wants bound to approvals."""

    @pytest.fixture
    def strict(self, django_db_blocker):
        owner = builders.person("Ottilie")
        where = builders.organization("Governed", owner=owner)
        gov.rule(where, owner, approvals_required="production")
        return where, owner, builders.signed_in(owner)

    def service(self, where, client, **changes):
        return form(where, client, kind="service", **changes)

    def live(self, client, typed):
        """Return the form that a page with scripts gets for what is chosen, and whether its box is replaced."""
        response = client.post("/keys/new/preview", typed, headers={"HX-Request": "true"})
        return response.context["form"], 'id="for-kind"' in response.content.decode()

    def test_one_that_is_not_bound_is_refused_at_the_box(self, strict):
        where, _, client = strict
        data = self.service(where, client, description="Typed")
        with builders.gains(where.id):
            response = client.post("/keys/new", data)
        errors = response.context["form"].errors
        assert response.status_code == 422
        assert list(errors) == ["approval_bound"]
        assert "new service keys in production must be bound to approvals" in errors["approval_bound"][0]
        page = response.content.decode()
        assert "Typed" in page
        assert page.count(unescape(errors["approval_bound"][0]).replace("'", "&#x27;")) >= 2
        with builders.gains(where.id, "key.created") as gained:
            response = client.post("/keys/new", {**data, "approval_bound": "on"})
        assert response.status_code == 200
        assert gained[0].data["after"]["approval_bound"] is True

    def test_other_kinds_and_other_environments_are_free(self, strict):
        where, owner, client = strict
        test = builders.environment(where)
        assert client.post("/keys/new", form(where, client)).status_code == 200
        assert client.post("/keys/new", self.service(where, client, environment=test.id)).status_code == 200
        gov.rule(where, owner, approvals_required="always")
        response = client.post("/keys/new", self.service(where, client, environment=test.id))
        assert list(response.context["form"].errors) == ["approval_bound"]
        assert client.post("/keys/new", form(where, client)).status_code == 200

    def test_keys_that_exist_stay_as_they_are(self):
        owner = builders.person("Olaf")
        where = builders.organization("Later", owner=owner)
        made = key_builders.create(where, owner, kind=Kind.SERVICE)
        gov.rule(where, owner, approvals_required="always")
        with builders.gains(where.id, "rotation.started"):
            key_builders.rotate(made.key, where, owner)
        assert not key_builders.read(made.key.id, where).approval_bound

    def test_the_form_explains_it(self, strict, alice):
        where, owner, client = strict
        words = "Your organization requires it of new service keys in production."
        assert words in client.get("/keys/new").content.decode()
        gov.rule(where, owner, approvals_required="always")
        assert (
            "Your organization requires it of every new service key."
            in client.get("/keys/new").content.decode()
        )
        assert "Your organization requires it" not in alice.get("/keys/new").content.decode()

    def test_the_box_is_ticked_as_soon_as_the_rule_asks_for_it(self, strict):
        where, _, client = strict
        test = builders.environment(where)
        typed = self.service(where, client, environment=test.id)
        shown, _ = self.live(client, typed)
        assert not shown["approval_bound"].value()
        typed |= {"offered_for": shown.offered_for, "environment": builders.production(where).id}
        shown, is_replaced = self.live(client, typed)
        assert shown["approval_bound"].value()
        assert is_replaced
        assert client.post("/keys/new/preview", typed).context["summary"].is_bound

    def test_then_it_is_the_persons(self, strict):
        where, _, client = strict
        typed = self.service(where, client)
        shown, _ = self.live(client, typed)
        shown, is_replaced = self.live(client, {**typed, "offered_for": shown.offered_for})
        assert not shown["approval_bound"].value()
        assert not is_replaced

    def test_what_the_rule_ticked_goes_with_it(self, strict):
        where, _, client = strict
        typed = self.service(where, client)
        shown, _ = self.live(client, typed)
        typed |= {"offered_for": shown.offered_for, "approval_bound": "on"}
        shown, is_replaced = self.live(client, {**typed, "environment": builders.environment(where).id})
        assert not shown["approval_bound"].value()
        assert is_replaced

    def test_what_a_person_ticked_stays_where_no_rule_is(self, alice, cast):
        typed = self.service(cast.acme, alice, approval_bound="on")
        for environment in (builders.environment(cast.acme), builders.production(cast.acme)):
            shown, _ = self.live(alice, typed | {"environment": environment.id})
            assert shown["approval_bound"].value()
            typed["offered_for"] = shown.offered_for

    def test_without_scripts_it_is_ticked_from_the_start_where_it_is_always_asked(self, strict):
        where, owner, client = strict
        assert not client.get("/keys/new").context["form"]["approval_bound"].value()
        gov.rule(where, owner, approvals_required="always")
        assert client.get("/keys/new").context["form"]["approval_bound"].value()
        # The box counts for service keys alone.
        response = client.post("/keys/new", form(where, client, approval_bound="on"))
        assert response.status_code == 200
        assert not response.context["key"].approval_bound
        page = client.post("/keys/new/preview", self.service(where, client))
        assert "<html" in page.content.decode()
        assert page.context["form"]["approval_bound"].value()

    def test_a_key_like_a_bound_one_is_bound(self, alice, cast):
        for model, is_bound in (
            (gov.bound_key(cast.acme, cast.alice), True),
            (key_builders.create(cast.acme, cast.alice, kind=Kind.SERVICE), False),
        ):
            shown = alice.get(f"/keys/new?like={model.key.id}").context["form"]
            assert bool(shown["approval_bound"].value()) is is_bound

    def test_a_key_like_one_from_before_the_rule_is_bound(self):
        owner = builders.person("Orla")
        where = builders.organization("Before", owner=owner)
        made = key_builders.create(where, owner, kind=Kind.SERVICE)
        gov.rule(where, owner, approvals_required="production")
        shown = builders.signed_in(owner).get(f"/keys/new?like={made.key.id}").context["form"]
        assert shown["approval_bound"].value()


class TestBreakGlass:
    def test_an_owner_who_just_signed_in_grants_it(self, alice, cast):
        data = form(cast.acme, alice, scopes=["keys:breakglass"])
        assert made(alice.post("/keys/new", data), cast).scopes == ["keys:breakglass"]

    def test_later_the_password_is_needed_again(self, cast):
        alice = builders.signed_in(cast.alice)
        session = alice.session
        session["account_authentication_methods"] = [
            {**record, "at": record["at"] - 301} for record in session["account_authentication_methods"]
        ]
        session.save()
        response = alice.post("/keys/new", form(cast.acme, alice, scopes=["keys:breakglass"]))
        assert response.status_code == 422
        assert "/account/confirm?next=/keys/new" in response.content.decode()

    def test_an_admin_never_grants_it(self, cast):
        anna = builders.signed_in(cast.anna)
        response = anna.post("/keys/new", form(cast.acme, anna, scopes=["keys:breakglass"]))
        assert "scopes" in response.context["form"].errors


class TestOnce:
    def test_the_same_form_again_makes_no_second_key(self, alice, cast):
        data = form(cast.acme, alice)
        key = made(alice.post("/keys/new", data), cast)
        ledger, keys = entries(cast.acme), key_builders.count(cast.acme)
        again = alice.post("/keys/new", {**data, "name": builders.unique("another")})
        assert again.status_code == 409
        assert secrets_in(again) == []
        assert f"/keys/{key.id}/rotate" in again.content.decode()
        assert (entries(cast.acme), key_builders.count(cast.acme)) == (ledger, keys)

    def test_a_form_with_errors_can_be_sent_again(self, alice, cast):
        data = form(cast.acme, alice, name="No Way")
        assert alice.post("/keys/new", data).status_code == 422
        assert made(alice.post("/keys/new", {**data, "name": "mended"}), cast).name == "mended"

    def test_a_service_that_refuses_gives_the_token_back(self, alice, cast):
        alice.post("/keys/new", form(cast.acme, alice, name="in-the-way"))
        data = form(cast.acme, alice, name="in-the-way")
        assert alice.post("/keys/new", data).status_code == 422
        assert made(alice.post("/keys/new", {**data, "name": "out-of-it"}), cast).name == "out-of-it"

    @pytest.mark.parametrize("token", ["", "short", "x" * 65, "ä" * 40])
    def test_a_form_without_a_real_token_is_refused(self, alice, cast, token):
        keys = key_builders.count(cast.acme)
        assert alice.post("/keys/new", form(cast.acme, alice, token=token)).status_code == 422
        assert key_builders.count(cast.acme) == keys

    def test_the_token_is_the_persons_and_the_organizations(self, alice, cast):
        data = form(cast.acme, alice)
        made(alice.post("/keys/new", data), cast)
        bob = builders.signed_in(cast.bob)
        made(bob.post("/keys/new", {**data, "name": builders.unique("key")}), cast)

    def test_two_at_once_make_one_key(self, alice, cast):
        data, before = form(cast.acme, alice), key_builders.count(cast.acme)
        both = [builders.signed_in(cast.alice) for _ in range(2)]
        answers, gate = [], threading.Barrier(2)

        def send(client):
            try:
                gate.wait(10)
                answers.append(client.post("/keys/new", data))
            finally:
                connections.close_all()

        threads = [threading.Thread(target=send, args=[client]) for client in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        assert sum(len(secrets_in(answer)) for answer in answers) == 1
        assert key_builders.count(cast.acme) == before + 1


class TestPreview:
    def test_changes_nothing_and_says_what_the_key_could_do(self, alice, cast):
        before, keys = entries(cast.acme), key_builders.count(cast.acme)
        response = alice.post("/keys/new/preview", form(cast.acme, alice), headers={"HX-Request": "true"})
        words = " ".join(unescape(response.content.decode()).split())
        assert "<html" not in words
        assert "read</b> incidents" in words
        assert (entries(cast.acme), key_builders.count(cast.acme)) == (before, keys)

    def test_without_scripts_it_is_the_whole_page_without_complaints(self, alice, cast):
        typed = form(cast.acme, alice, name="No Way", kind="")
        response = alice.post("/keys/new/preview", typed)
        page = response.content.decode()
        assert response.status_code == 200
        assert "<html" in page
        assert "No Way" in page
        assert typed["token"] in page
        assert "error-summary" not in page

    def test_a_kind_bars_what_it_cannot_carry(self, alice, cast):
        typed = form(cast.acme, alice, kind="ingestion")
        response = alice.post("/keys/new/preview", typed, headers={"HX-Request": "true"})
        page = response.content.decode()
        box = page[page.index('value="incidents:read"') :]
        assert "disabled" in box[: box.index(">")]
        assert "Never" in page

    def test_the_scopes_stay_in_place_while_the_kind_does(self, alice, cast):
        typed = form(cast.acme, alice)
        first = alice.post("/keys/new/preview", typed, headers={"HX-Request": "true"})
        offered = first.context["form"].offered_for
        second = alice.post(
            "/keys/new/preview", {**typed, "offered_for": offered}, headers={"HX-Request": "true"}
        )
        assert 'id="for-kind"' in first.content.decode()
        assert 'id="for-kind"' not in second.content.decode()

    @pytest.mark.parametrize(
        ("preset", "ticked", "not_ticked"),
        [
            ("read-only", {"incidents:read"}, {"incidents:write", "admin:projects"}),
            ("write", {"incidents:read", "incidents:write"}, {"admin:projects"}),
            ("admin", {"admin:projects"}, {"incidents:*", "keys:breakglass", "ingest:write"}),
        ],
    )
    def test_a_preset_ticks_by_risk(self, alice, cast, preset, ticked, not_ticked):
        response = alice.post("/keys/new/preview", {**form(cast.acme, alice, scopes=[]), "preset": preset})
        checked = {
            scope.name for group in response.context["groups"] for scope in group.scopes if scope.checked
        }
        assert ticked <= checked
        assert not checked & not_ticked

    def test_a_preset_ticks_only_what_one_may_grant(self, cast):
        bob = builders.signed_in(cast.bob)
        response = bob.post("/keys/new/preview", {**form(cast.acme, bob, scopes=[]), "preset": "admin"})
        checked = {
            scope.name for group in response.context["groups"] for scope in group.scopes if scope.checked
        }
        assert "incidents:write" in checked
        assert "admin:projects" not in checked

    def test_an_unknown_preset_ticks_nothing_more(self, alice, cast):
        response = alice.post("/keys/new/preview", {**form(cast.acme, alice), "preset": "nonsense"})
        assert response.context["form"]["scopes"].value() == ["incidents:read"]

    def test_says_it_once_where_several_things_may_be_done(self, alice, cast):
        typed = form(cast.acme, alice, scopes=["incidents:read", "incidents:write", "admin:projects"])
        clauses = alice.post("/keys/new/preview", typed).context["summary"].radius.clauses
        said = [([verb for verb, _ in clause.verbs], clause.things) for clause in clauses]
        assert said == [(["read", "change"], "incidents"), (["administer"], "projects")]

    def test_says_what_the_owners_role_takes_away(self, alice, cast):
        typed = form(cast.acme, alice, scopes=["incidents:write"], owner="member", owner_member=cast.vera.id)
        page = alice.post("/keys/new/preview", typed, headers={"HX-Request": "true"}).content.decode()
        assert "beyond the owner's role" in unescape(page)

    def test_says_what_the_project_takes_away(self, alice, cast):
        narrow = builders.project(builders.root(cast.acme), builders.unique("Narrow"))
        with tenancy.within(cast.acme.id):
            orgs_services.set_project_scopes(narrow, ["incidents:read"], actor=builders.OPERATOR)
        typed = form(cast.acme, alice, narrow, scopes=["incidents:write"])
        page = alice.post("/keys/new/preview", typed, headers={"HX-Request": "true"}).content.decode()
        assert "does not allow" in unescape(page)

    def test_garbage_is_no_error(self, alice):
        garbage = {"kind": "x", "project": "y", "scopes": ["<script>"], "expires": "z", "expires_on": "never"}
        response = alice.post("/keys/new/preview", garbage)
        assert response.status_code == 200
        assert "<script>" not in response.content.decode().split("<main")[1]
