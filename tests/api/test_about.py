"""`/v1/projects`, `/v1/environments`, `/v1/scopes`, `/v1/me`: what creation needs, and who am I."""

from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from keys.secret import Kind
from keys.services import Owner
from orgs.services import archive_environment
from tests import builders, key_builders
from tests.api import calls
from tests.api.calls import Api, is_problem


def every(api, path, limit):
    """Walk a list page by page and return all of it."""
    found, cursor = [], ""
    while True:
        page = api.get(f"{path}?limit={limit}{cursor}").json()
        assert set(page) == {"data", "next_cursor"}
        found += page["data"]
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


class TestProjects:
    def test_those_that_the_key_reaches(self, cast, api):
        root = builders.root(cast.acme)
        own = builders.project(root)
        below = builders.project(own)
        builders.project(root)
        program = calls.program(cast.acme, cast.alice, project=own)
        assert program.get("/projects").json() == {
            "data": [
                {"id": own.id, "name": own.name, "parent": None, "scopes": None},
                {"id": below.id, "name": below.name, "parent": own.id, "scopes": None},
            ],
            "next_cursor": None,
        }
        ids = [row["id"] for row in every(api, "/projects", 1)]
        assert ids[0] == root.id
        assert {own.id, below.id} < set(ids)

    def test_a_stranger_sees_their_own(self, cast, stranger):
        assert [row["id"] for row in stranger.get("/projects").json()["data"]] == [
            builders.root(cast.elsewhere).id
        ]


class TestEnvironments:
    def test_those_in_use(self, cast, api):
        used, gone = builders.environment(cast.acme), builders.environment(cast.acme)
        archive_environment(gone, actor=builders.OPERATOR)
        found = {row["slug"]: row for row in every(api, "/environments", 1)}
        assert found["production"]["is_production"] is True
        assert found[used.slug] == {
            "id": used.id,
            "slug": used.slug,
            "name": used.name,
            "mode": "test",
            "is_production": False,
        }
        assert gone.slug not in found

    def test_a_stranger_sees_their_own(self, stranger):
        assert [row["slug"] for row in stranger.get("/environments").json()["data"]] == ["production"]


class TestScopes:
    def test_the_whole_catalogue(self, api):
        found = {row["name"]: row for row in every(api, "/scopes", 3)}
        assert list(found) == sorted(found)
        assert found["keys:breakglass"]["risk"] == "admin"
        assert found["incidents:read"] == {
            "name": "incidents:read",
            "description": "About incidents:read",
            "risk": "read",
            "kinds": ["control_plane", "service"],
            "is_deprecated": False,
        }


class TestMe:
    def test_works(self, cast):
        soon = timezone.now() + timedelta(days=3)
        made = calls.key(cast.acme, cast.alice, ["keys:read", "keys:write"], expires=soon)
        told = Api(made.secret).get("/me").json()
        assert made.key.created_at.strftime("%Y-%m-%dT%H:%M") == told.pop("secret_created_at")[:16]
        assert told == {
            "id": made.key.id,
            "name": made.key.name,
            "kind": "control_plane",
            "organization": {"id": cast.acme.id, "slug": cast.acme.slug, "name": "Acme"},
            "is_operator": False,
            "project": builders.root(cast.acme).id,
            "environment": "production",
            "scopes": ["keys:read", "keys:write"],
            "secret_version": 1,
            "retiring": False,
            "expires_at": soon.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "accepted_until": None,
            "rotation_interval_days": None,
            "allowed_ips": [],
            "rate_limit": None,
        }

    def test_tells_a_retiring_secret_of_its_own_end(self, cast):
        made = calls.key(cast.acme, cast.alice, ["keys:read"])
        key_builders.rotate(made.key, cast.acme, cast.alice, grace_seconds=3_600)
        told = Api(made.secret).get("/me").json()
        assert (told["secret_version"], told["retiring"]) == (1, True)
        left = datetime.fromisoformat(told["accepted_until"]) - timezone.now()
        assert timedelta(minutes=59) < left <= timedelta(hours=1)

    def test_the_scopes_that_count(self, cast):
        api = calls.program(cast.acme, cast.alice, ["keys:read", "keys:write"], owner=Owner(member=cast.vera))
        assert api.get("/me").json()["scopes"] == ["keys:read"]

    def test_tells_a_key_in_a_device_nothing_of_people(self, cast):
        api = calls.program(
            cast.acme, cast.alice, ["ingest:write"], kind=Kind.INGESTION, owner=Owner(member=cast.bob)
        )
        assert cast.bob.id not in api.get("/me").content.decode()


@pytest.mark.parametrize("path", ["/projects", "/environments", "/scopes"])
class TestLists:
    @pytest.mark.parametrize(
        "query",
        [
            "limit=0",
            "limit=201",
            "limit=x",
            "cursor=é",
            "cursor=%00",
            "cursor=AA",
            "cursor=" + "A" * 600,
            "cursor=_w",
            "sort=name",
            "limit=1&limit=1",
        ],
    )
    def test_what_is_refused(self, api, path, query):
        is_problem(api.get(f"{path}?{query}"), 422, "invalid_value")


def test_me_takes_no_parameters(api):
    is_problem(api.get("/me?verbose=1"), 422, "invalid_value")
