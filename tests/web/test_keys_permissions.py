"""Effective permissions: which scopes a key could do without, and dropping exactly these."""

import re

import pytest

from audit import tenancy
from audit.actors import Actor
from keys import callers, services
from keys.leaks.possession import Held
from tests import builders, key_builders
from tests.api.calls import as_superuser
from tests.key_builders import entries, read
from tests.usage_builders import asked

SCOPES = ["admin:projects", "incidents:read", "incidents:write"]


@pytest.fixture
def alice(cast):
    return builders.signed_in(cast.alice)


def aged(cast, days=100, scopes=SCOPES, **changes):
    """Return a key that was made so long ago."""
    key = key_builders.create(cast.acme, cast.alice, scopes=scopes, **changes).key
    as_superuser(
        "UPDATE keys_apikey SET created_at = now() - make_interval(days => %s) WHERE id = %s", days, key.id
    )
    return key


def page(client, key, days=""):
    return client.get(f"/keys/{key.id}/access{'?days=' + days if days else ''}").content.decode()


def offered(html):
    return re.findall(r'name="scopes" value="([^"]+)"', html)


def drop(client, key, scopes, days="30"):
    return client.post(f"/keys/{key.id}/access/drop", {"days": days, "scopes": scopes})


class TestShown:
    def test_what_no_call_asked_for_in_the_window(self, cast, alice):
        key = aged(cast)
        asked(key, "incidents:read", 1)
        asked(key, "incidents:write", 40)
        assert offered(page(alice, key)) == ["admin:projects", "incidents:write"]
        assert offered(page(alice, key, "90")) == ["admin:projects"]
        assert offered(page(alice, key, "7")) == ["admin:projects", "incidents:write"]

    def test_a_wildcard_is_used_by_what_it_covers(self, cast, alice):
        key = aged(cast, scopes=["incidents:*", "admin:projects"])
        asked(key, "incidents:write")
        assert offered(page(alice, key)) == ["admin:projects"]

    def test_of_a_young_key_nothing_is_told(self, cast, alice):
        key = aged(cast, days=40)
        asked(key, "incidents:read")
        assert offered(page(alice, key))
        assert "too young to tell" in page(alice, key, "90")
        assert not offered(page(alice, key, "90"))

    def test_one_that_was_given_lately_is_not_called_unused(self, cast, alice):
        key = aged(cast, scopes=["incidents:read", "admin:projects"])
        asked(key, "incidents:read")
        with tenancy.within(cast.acme.id):
            services.change_key(
                read(key.id, cast.acme),
                services.Changes(scopes=SCOPES),
                actor=callers.of_member(cast.member(cast.alice)),
            )
        assert offered(page(alice, key)) == ["admin:projects"]

    def test_the_portals_own_scopes_are_not_told_of(self, cast, alice):
        key = aged(cast, scopes=["keys:read", "incidents:read", "admin:projects"])
        asked(key, "incidents:read")
        assert offered(page(alice, key)) == ["admin:projects"]

    def test_where_no_call_names_scopes_nothing_is_offered(self, cast, alice):
        html = page(alice, aged(cast))
        assert "says nothing" in html
        assert not offered(html)

    def test_whoever_may_not_change_it_is_offered_nothing(self, cast):
        key = aged(cast)
        asked(key, "incidents:read")
        html = page(builders.signed_in(cast.vera), key)
        assert "admin:projects" in html
        assert not offered(html)


class TestDropping:
    def test_drops_exactly_these_with_one_entry(self, cast, alice):
        key = aged(cast)
        asked(key, "incidents:read")
        before = len(entries(cast.acme))
        response = drop(alice, key, ["incidents:write", "admin:projects"])
        assert (response.status_code, response["Location"]) == (303, f"/keys/{key.id}/access")
        assert read(key.id, cast.acme).scopes == ["incidents:read"]
        (entry,) = entries(cast.acme)[before:]
        assert entry["act"] == "key.scopes_changed"
        assert entry["data"]["after"] == {"scopes": ["incidents:read"]}
        assert "gives them back" in alice.get(response["Location"]).content.decode()

    def test_a_scope_that_was_given_meanwhile_stays(self, cast, alice):
        key = aged(cast, scopes=["incidents:read", "admin:projects"])
        asked(key, "incidents:read")
        with tenancy.within(cast.acme.id):
            services.change_key(
                read(key.id, cast.acme),
                services.Changes(scopes=SCOPES),
                actor=callers.of_member(cast.member(cast.alice)),
            )
        drop(alice, key, ["admin:projects"])
        assert sorted(read(key.id, cast.acme).scopes) == ["incidents:read", "incidents:write"]

    def test_one_that_was_asked_for_meanwhile_stays(self, cast, alice):
        key = aged(cast)
        asked(key, "incidents:read")
        asked(key, "admin:projects")
        response = drop(alice, key, ["incidents:write", "admin:projects"])
        assert response.status_code == 409
        assert "asked for meanwhile" in response.content.decode()
        assert read(key.id, cast.acme).scopes == SCOPES

    def test_never_the_last_one(self, cast, alice):
        key = aged(cast)
        response = drop(alice, key, SCOPES)
        assert response.status_code == 409
        assert "revoke it instead" in response.content.decode()
        assert read(key.id, cast.acme).scopes == SCOPES

    @pytest.mark.parametrize(
        ("scopes", "days"), [([], "30"), (["x:y"], "30"), (["admin:projects"], "7"), (["admin:projects"], "")]
    )
    def test_what_the_page_did_not_offer_is_refused(self, cast, alice, scopes, days):
        key = aged(cast)
        asked(key, "incidents:read")
        assert drop(alice, key, scopes, days).status_code == 409
        assert read(key.id, cast.acme).scopes == SCOPES

    def test_of_a_revoked_key_nothing_is_dropped(self, cast, alice):
        key = aged(cast)
        asked(key, "incidents:read")
        with tenancy.within(cast.acme.id):
            services.revoke_key(key, actor=callers.of_member(cast.member(cast.alice)))
        assert drop(alice, key, ["admin:projects"]).status_code == 409

    def test_a_viewer_may_not_and_a_stranger_sees_nothing(self, cast):
        key = aged(cast)
        asked(key, "incidents:read")
        assert drop(builders.signed_in(cast.vera), key, ["admin:projects"]).status_code == 403
        assert drop(builders.signed_in(cast.mallory), key, ["admin:projects"]).status_code == 404


class TestStolen:
    def test_the_page_says_what_a_stolen_key_could_do(self, cast, alice):
        key = key_builders.create(cast.acme, cast.alice, scopes=SCOPES, allowed_ips=["192.0.2.0/24"]).key
        html = alice.get(f"/keys/{key.id}").content.decode()
        assert "If its secret were stolen" in html
        assert "It works from 1 address range alone, until " in html

    def test_of_a_disabled_one_it_says_when(self, cast, alice):
        key = key_builders.create(cast.acme, cast.alice).key
        alice.post(f"/keys/{key.id}/disable", {"minutes": ""})
        assert (
            "Once it is enabled again, it works from any address"
            in alice.get(f"/keys/{key.id}").content.decode()
        )


def test_where_a_secret_leaked_stands_on_the_keys_page(cast, alice):
    key = key_builders.create(cast.acme, cast.alice).key
    held = Held(organization_id=cast.acme.id, key_id=key.id, version=1)
    for url in ("javascript:alert(1)", "https://github.com/a/b?<script>"):
        with tenancy.within(cast.acme.id):
            services.report_leak(held, actor=Actor.system("scanning"), url=url)
    html = alice.get(f"/keys/{key.id}").content.decode()
    assert "by <bdi>secret scanning</bdi>" in html
    assert re.search(r'href="/incidents/inc_[a-z2-7]{20}">See the incident<', html)
    assert "Version 1 of its secret was found in public" in html
    assert 'href="https://github.com/a/b?&lt;script&gt;"' in html
    assert 'href="javascript' not in html
