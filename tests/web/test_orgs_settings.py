"""The settings pages: for each URL the same questions, then what is its own."""

from html import unescape
from html.parser import HTMLParser

import pytest
from django.test import Client
from django.utils import timezone

from audit import tenancy
from orgs import ports, services
from orgs.models import Environment, Membership, Project
from orgs.roles import Role
from tests import builders


@pytest.fixture(scope="module")
def cast(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        return builders.cast()


@pytest.fixture(scope="module")
def places(cast, django_db_setup, django_db_blocker):
    """What the paths below speak of, of alice's organization."""
    with django_db_blocker.unblock():
        vera = membership(cast.vera, cast.acme)
        invited = services.invite_member("open@example.com", Role.VIEWER, actor=cast.member(cast.alice))
        return {
            "member": vera.id,
            "invitation": invited.invitation.id,
            "project": builders.project(builders.root(cast.acme)).id,
            "environment": builders.environment(cast.acme).id,
        }


def membership(user, where):
    with tenancy.within(where.id):
        return Membership.objects.filter(user=user, organization=where, project=None).get()


def one(model, where, **wanted):
    with tenancy.within(where.id):
        return model.objects.get(organization=where, **wanted)


LISTS = ["/settings/organization", "/settings/members", "/settings/projects", "/settings/environments"]
# What owners and admins change: the path, a form that works, and whose id is in it.
FORMS = [
    ("/settings/members/invite", {"email": "z@example.com", "role": "viewer"}),
    ("/settings/members/{member}", {"role": "auditor"}),
    ("/settings/members/{member}/remove", {"entirely": "on"}),
    ("/settings/projects/{project}/new", {"name": "Below"}),
    ("/settings/projects/{project}/rename", {"name": "Renamed"}),
    ("/settings/projects/{project}/scopes", {"narrows": "listed", "scopes": "a:read"}),
    ("/settings/projects/{project}/archive", {}),
    ("/settings/environments/new", {"name": "Lab", "slug": "lab", "mode": "test"}),
    ("/settings/environments/{environment}/rename", {"name": "Renamed"}),
    ("/settings/environments/{environment}/archive", {}),
]
WITH_ID = [(path, form) for path, form in FORMS if "{" in path]
READERS = ["bob", "carol", "vera"]


class TestEveryPage:
    @pytest.mark.parametrize("path", LISTS)
    @pytest.mark.parametrize("who", ["alice", "anna", *READERS])
    def test_members_read_the_lists(self, cast, places, path, who):
        response = builders.signed_in(getattr(cast, who)).get(path)
        assert response.status_code == 200
        assert response["Cache-Control"] == "no-store"
        assert response["Referrer-Policy"] == "no-referrer"

    @pytest.mark.parametrize(("path", "form"), FORMS)
    def test_owners_and_admins_get_the_form(self, cast, places, path, form):
        for who in (cast.alice, cast.anna):
            assert builders.signed_in(who).get(path.format(**places)).status_code == 200

    @pytest.mark.parametrize(
        ("path", "form"), [*FORMS, ("/settings/organization", {"name": "N", "slug": "n"})]
    )
    @pytest.mark.parametrize("who", READERS)
    def test_readers_are_refused(self, cast, places, path, form, who):
        client = builders.signed_in(getattr(cast, who))
        with builders.gains(cast.acme.id):
            assert client.post(path.format(**places), form).status_code == 403

    @pytest.mark.parametrize(("path", "form"), WITH_ID)
    def test_strangers_find_nothing_as_for_what_is_unknown(self, cast, places, path, form):
        client = builders.signed_in(cast.mallory)
        unknown = dict.fromkeys(places, "prj_aaaaaaaaaaaaaaaaaaaa")
        with builders.gains(cast.acme.id), builders.gains(cast.elsewhere.id):
            answers = [
                client.generic(method, path.format(**ids))
                for method in ("GET", "POST")
                for ids in (places, unknown)
            ]
        assert {answer.status_code for answer in answers} == {404}

    @pytest.mark.parametrize("path", [*LISTS, *(path for path, _ in FORMS), "/settings"])
    def test_nobody_is_let_in_unsigned(self, cast, places, path):
        for method in ("GET", "POST"):
            response = Client().generic(method, path.format(**places))
            assert (response.status_code, response.url.startswith("/login")) == (302, True)

    @pytest.mark.parametrize("path", [*LISTS, *(path for path, _ in FORMS)])
    def test_other_methods_are_refused(self, cast, places, path):
        client = builders.signed_in(cast.alice)
        for method in ("PUT", "DELETE", "PATCH"):
            assert client.generic(method, path.format(**places)).status_code == 405

    def test_withdrawing_is_posted(self, cast, places):
        path = f"/settings/invitations/{places['invitation']}/withdraw"
        assert builders.signed_in(cast.alice).get(path).status_code == 405
        assert builders.signed_in(cast.mallory).post(path).status_code == 404
        assert builders.signed_in(cast.bob).post(path).status_code == 403

    def test_forms_need_their_token(self, cast, places):
        client = builders.signed_in(cast.alice)
        client.handler.enforce_csrf_checks = True
        assert client.post("/settings/organization", {"name": "X", "slug": "x"}).status_code == 403

    @pytest.mark.parametrize("path", [*LISTS, *(path for path, _ in FORMS)])
    def test_pages_hold_to_the_policy_of_scripts_and_labels(self, cast, places, path):
        page = Page(builders.signed_in(cast.alice).get(path.format(**places)).content.decode())
        assert page.faults == []
        assert page.unlabelled() == []


class Page(HTMLParser):
    """What a page's markup must never hold, and fields without a label."""

    def __init__(self, text):
        super().__init__()
        self.faults, self.fields, self.labels = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        names = dict(attrs)
        self.faults += [f"{tag} {name}" for name in names if name == "style" or name.startswith("on")]
        if tag in {"script", "style"} and "src" not in names:
            self.faults.append(tag)
        if tag == "label":
            self.labels.add(names.get("for"))
        if tag in {"input", "select", "textarea"} and names.get("type") not in {"hidden", "submit"}:
            self.fields.append(names)

    def unlabelled(self):
        return [f for f in self.fields if f.get("id") not in self.labels and not f.get("aria-label")]


class TestOrganization:
    def test_changes(self, cast):
        owner = builders.person("Olga")
        own = builders.organization("Before", owner=owner)
        slug = builders.unique("after")
        client = builders.signed_in(owner)
        with builders.gains(own.id, "organization.changed"):
            response = client.post("/settings/organization", {"name": "After", "slug": slug})
        assert (response.status_code, response.url) == (303, "/settings/organization")
        assert "After" in client.get("/settings/organization").content.decode()

    @pytest.mark.parametrize("slug", ["", "-x", "Ä", "a b", "x" * 64])
    def test_says_at_the_field_what_is_wrong(self, cast, slug):
        with builders.gains(cast.acme.id):
            response = builders.signed_in(cast.alice).post(
                "/settings/organization", {"name": "A", "slug": slug}
            )
        assert response.status_code == 200
        assert list(response.context["form"].errors) == ["slug"]
        assert 'id="id_slug_error"' in response.content.decode()

    def test_a_taken_slug_too(self, cast):
        form = {"name": "Acme", "slug": cast.elsewhere.slug}
        with builders.gains(cast.acme.id):
            response = builders.signed_in(cast.alice).post("/settings/organization", form)
        assert "Another organization has this short name." in response.content.decode()

    def test_a_name_of_markup_is_text(self, cast):
        owner = builders.person("Olga")
        own = builders.organization("<script>alert(1)</script>", owner=owner)
        text = builders.signed_in(owner).get("/settings/members").content.decode()
        assert "<script>alert" not in text
        assert own.name in unescape(text)

    def test_readers_see_no_form(self, cast):
        text = builders.signed_in(cast.vera).get("/settings/organization").content.decode()
        assert 'name="slug"' not in text
        assert cast.acme.id in text

    def test_settings_lead_there(self, cast):
        assert builders.signed_in(cast.vera).get("/settings").url == "/settings/organization"


class TestMembers:
    def test_lists_people_and_offers_what_one_may(self, cast):
        admin = builders.signed_in(cast.anna).get("/settings/members").content.decode()
        assert cast.bob.email in admin
        assert f"/settings/members/{membership(cast.bob, cast.acme).id}" in admin
        assert f"/settings/members/{membership(cast.alice, cast.acme).id}" not in admin
        assert (
            "/settings/members/"
            not in builders.signed_in(cast.vera).get("/settings/members").content.decode()
        )

    def test_somebody_of_one_project_sees_no_list(self, cast, places):
        paul = builders.person("Paul")
        project = one(Project, cast.acme, pk=places["project"])
        builders.join(paul, cast.acme, Role.ADMIN, project)
        client = builders.signed_in(paul)
        assert client.get("/settings/members").status_code == 404
        assert client.get("/settings/organization").status_code == 200
        assert client.get(f"/settings/members/{places['member']}").status_code == 404
        assert (
            client.post("/settings/members/invite", {"email": "q@example.com", "role": "admin"}).status_code
            == 403
        )

    def test_the_link_is_shown_once_and_never_again(self, cast):
        client = builders.signed_in(cast.alice)
        with builders.gains(cast.acme.id, "member.invited"):
            made = client.post("/settings/members/invite", {"email": "once@example.com", "role": "developer"})
        link = str(made.context["link"])
        assert link in made.content.decode()
        assert made["Cache-Control"] == "no-store"
        listed = client.get("/settings/members").content.decode()
        assert "once@example.com" in listed
        assert link.rsplit("/", 1)[1] not in listed

    def test_an_admin_offers_no_owner(self, cast):
        client = builders.signed_in(cast.anna)
        assert b'value="owner"' not in client.get("/settings/members/invite").content
        with builders.gains(cast.acme.id):
            response = client.post("/settings/members/invite", {"email": "o@example.com", "role": "owner"})
        assert list(response.context["form"].errors) == ["role"]

    def test_nor_changes_one(self, cast):
        client = builders.signed_in(cast.anna)
        alice = membership(cast.alice, cast.acme).id
        for path in (f"/settings/members/{alice}", f"/settings/members/{alice}/remove"):
            assert client.post(path, {"role": "viewer"}).status_code == 403

    def test_a_project_of_a_stranger_is_no_choice(self, cast):
        form = {"email": "p@example.com", "role": "viewer", "project": builders.root(cast.elsewhere).id}
        with builders.gains(cast.acme.id):
            response = builders.signed_in(cast.alice).post("/settings/members/invite", form)
        assert list(response.context["form"].errors) == ["project"]

    def test_changing_a_role(self, cast):
        kim = builders.person("Kim")
        kims = builders.join(kim, cast.acme, Role.VIEWER)
        with builders.gains(cast.acme.id, "member.role_changed"):
            response = builders.signed_in(cast.alice).post(
                f"/settings/members/{kims.id}", {"role": "auditor"}
            )
        assert (response.status_code, response.url) == (303, "/settings/members")

    def test_the_last_owner_is_told(self, cast):
        client = builders.signed_in(cast.alice)
        alice = membership(cast.alice, cast.acme).id
        with builders.gains(cast.acme.id):
            changed = client.post(f"/settings/members/{alice}", {"role": "viewer"})
            removed = client.post(f"/settings/members/{alice}/remove")
        for response in (changed, removed):
            assert response.status_code == 200
            assert "keeps at least one owner" in response.content.decode()

    def test_removing_says_first_what_happens_to_the_keys(self, cast, monkeypatch):
        monkeypatch.setattr(ports, "tell_member_leaving", [lambda *_: "Their 4 keys are disabled."])
        kim = builders.person("Kim")
        kims = builders.join(kim, cast.acme, Role.DEVELOPER)
        client = builders.signed_in(cast.alice)
        assert (
            "Their 4 keys are disabled." in client.get(f"/settings/members/{kims.id}/remove").content.decode()
        )
        with builders.gains(cast.acme.id, "member.removed"):
            assert client.post(f"/settings/members/{kims.id}/remove").status_code == 303
        assert client.post(f"/settings/members/{kims.id}/remove").status_code == 404

    def test_an_owner_of_a_project_is_no_choice(self, cast):
        form = {"email": "p@example.com", "role": "owner", "project": builders.root(cast.acme).id}
        with builders.gains(cast.acme.id):
            response = builders.signed_in(cast.alice).post("/settings/members/invite", form)
        assert list(response.context["form"].errors) == ["role"]

    @pytest.mark.parametrize("act", ["change_role", "remove_member"])
    def test_what_somebody_else_ended_meanwhile_leads_back(self, cast, monkeypatch, act):
        """Between finding the membership and locking the organization, which no client can time."""
        kim = builders.person("Kim")
        kims = builders.join(kim, cast.acme, Role.VIEWER)
        real = getattr(services, act)

        def late(membership, *args, **kwargs):
            Membership.objects.filter(pk=membership.pk).delete()
            return real(membership, *args, **kwargs)

        monkeypatch.setattr(services, act, late)
        client = builders.signed_in(cast.alice)
        path = f"/settings/members/{kims.id}" + ("/remove" if act == "remove_member" else "")
        with builders.gains(cast.acme.id):
            response = client.post(path, {"role": "auditor", "entirely": "on"}, follow=True)
        assert response.redirect_chain == [("/settings/members", 303)]
        assert "in the meantime" in response.content.decode()

    def test_withdrawing(self, cast):
        invited = services.invite_member("gone@example.com", Role.VIEWER, actor=cast.member(cast.alice))
        client = builders.signed_in(cast.anna)
        with builders.gains(cast.acme.id, "member.invitation_withdrawn"):
            path = f"/settings/invitations/{invited.invitation.id}/withdraw"
            assert client.post(path).status_code == client.post(path).status_code == 303
        assert "gone@example.com" not in client.get("/settings/members").content.decode()


class TestProjects:
    @pytest.fixture
    def own(self):
        owner = builders.person("Olga")
        where = builders.organization("Own", owner=owner)
        return where, builders.signed_in(owner), builders.project(builders.root(where), "Web")

    def test_makes_renames_narrows_archives(self, own):
        where, client, web = own
        acts = (
            "project.created",
            "project.changed",
            "project.changed",
            "project.archived",
            "project.archived",
        )
        with builders.gains(where.id, *acts):
            for page, form in (
                ("new", {"name": "Api"}),
                ("rename", {"name": "Front"}),
                ("scopes", {"narrows": "listed", "scopes": "b:read\na:*"}),
                ("archive", {}),
            ):
                response = client.post(f"/settings/projects/{web.id}/{page}", form)
                assert (response.status_code, response.url) == (303, "/settings/projects"), page
        web = one(Project, where, pk=web.id)
        assert (web.name, web.scopes) == ("Front", ["a:*", "b:read"])
        assert web.archived_at is not None
        assert client.get(f"/settings/projects/{web.id}/rename").status_code == 404
        assert web.id not in client.get("/settings/projects").content.decode()

    def test_what_was_archived_meanwhile_says_so(self, own, monkeypatch):
        where, client, web = own
        for name, page in (("rename_project", "rename"), ("set_project_scopes", "scopes")):
            real = getattr(services, name)

            def late(project, *args, real=real, **kwargs):
                Project.objects.filter(pk=project.pk).update(archived_at=timezone.now())
                try:
                    return real(project, *args, **kwargs)
                finally:
                    Project.objects.filter(pk=project.pk).update(archived_at=None)

            monkeypatch.setattr(services, name, late)
            with builders.gains(where.id):
                response = client.post(f"/settings/projects/{web.id}/{page}", {"name": "Late", "narrows": ""})
            assert "in the meantime" in response.content.decode()

    def test_no_narrowing_is_none_and_an_empty_list_is_nothing(self, own):
        where, client, web = own
        client.post(f"/settings/projects/{web.id}/scopes", {"narrows": "listed", "scopes": ""})
        assert one(Project, where, pk=web.id).scopes == []
        client.post(f"/settings/projects/{web.id}/scopes", {"narrows": "", "scopes": "a:read"})
        assert one(Project, where, pk=web.id).scopes is None

    @pytest.mark.parametrize("scope", ["A:read", "a", "a:b:c", ":a", "a:-", "é:read"])
    def test_refuses_what_is_no_scope(self, own, scope):
        where, client, web = own
        with builders.gains(where.id):
            form = {"narrows": "listed", "scopes": f"a:read {scope}"}
            response = client.post(f"/settings/projects/{web.id}/scopes", form)
        assert list(response.context["form"].errors) == ["scopes"]

    @pytest.mark.parametrize("name", ["", "x" * 101, "a / b", "a\u202eb", "a\x07b"])
    def test_refuses_names(self, own, name):
        where, client, web = own
        with builders.gains(where.id):
            response = client.post(f"/settings/projects/{web.id}/new", {"name": name})
        assert list(response.context["form"].errors) == ["name"]

    def test_the_root_says_that_it_stays(self, own):
        where, client, _ = own
        with builders.gains(where.id):
            response = client.post(f"/settings/projects/{builders.root(where).id}/archive")
        assert "can&#x27;t be archived" in response.content.decode()

    def test_the_admin_of_one_project_extends_it_and_lifts_no_bound_of_it(self, own):
        where, _, web = own
        paul = builders.person("Paul")
        builders.join(paul, where, Role.ADMIN, web)
        client = builders.signed_in(paul)
        with builders.gains(where.id, "project.created"):
            assert client.post(f"/settings/projects/{web.id}/new", {"name": "Api"}).status_code == 303
        below = one(Project, where, name="Api")
        for page in ("rename", "scopes", "archive"):
            assert client.get(f"/settings/projects/{web.id}/{page}").status_code == 403
            assert client.get(f"/settings/projects/{below.id}/{page}").status_code == 200
        assert client.get(f"/settings/projects/{builders.root(where).id}/new").status_code == 404
        assert client.get("/settings/environments/new").status_code == 403


class TestEnvironments:
    @pytest.fixture
    def own(self):
        owner = builders.person("Olga")
        return builders.organization("Own", owner=owner), builders.signed_in(owner)

    def test_makes_renames_archives(self, own):
        where, client = own
        acts = ("environment.created", "environment.changed", "environment.archived")
        with builders.gains(where.id, *acts):
            form = {"name": "Staging", "slug": "staging", "mode": "test"}
            assert client.post("/settings/environments/new", form).status_code == 303
            made = one(Environment, where, slug="staging")
            client.post(f"/settings/environments/{made.id}/rename", {"name": "Stage"})
            client.post(f"/settings/environments/{made.id}/archive")
        assert client.get(f"/settings/environments/{made.id}/rename").status_code == 404

    @pytest.mark.parametrize(
        ("form", "field"),
        [
            ({"slug": "test"}, "slug"),
            ({"slug": "production"}, "slug"),
            ({"slug": "Big"}, "slug"),
            ({"mode": "other"}, "mode"),
            ({"is_production": "on"}, "is_production"),
            ({"name": ""}, "name"),
        ],
    )
    def test_says_at_the_field_what_is_wrong(self, own, form, field):
        where, client = own
        with builders.gains(where.id):
            sent = {"name": "Lab", "slug": "lab", "mode": "test"} | form
            response = client.post("/settings/environments/new", sent)
        assert response.status_code == 200
        assert list(response.context["form"].errors) == [field]

    def test_the_last_one_stays(self, own):
        where, client = own
        with builders.gains(where.id):
            response = client.post(f"/settings/environments/{builders.production(where).id}/archive")
        assert "keeps at least one environment" in response.content.decode()
