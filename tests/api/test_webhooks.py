"""`/v1/webhooks`: what a program does with the organization's webhooks."""

import json
import re
from datetime import timedelta

import pytest
from django.utils import timezone

from audit import tenancy
from audit.models import Delivery, Endpoint, EndpointSecret
from tests import builders
from tests.api import calls
from tests.api.calls import is_problem, where, without_id

SECRET = re.compile(r"whsec_[A-Za-z0-9+/]{43}=")
URL = "https://1.1.1.1/hook"


@pytest.fixture
def cast():
    return builders.cast()


@pytest.fixture
def api(cast):
    return calls.program(cast.acme, cast.alice, ["webhooks:write"])


def draft(**changes):
    return {"url": URL, "acts": ["key.*"], **changes}


def make(api, **changes):
    answer = api.post("/webhooks", draft(**changes))
    assert answer.status_code == 201, answer.content
    return json.loads(answer.content)


class TestCreating:
    def test_answers_with_the_secret_once(self, cast, api):
        with builders.gains(cast.acme.id, "webhook.created") as gained:
            made = make(api, description="Ours")
        assert SECRET.fullmatch(made["secret"])
        assert made["webhook"]["status"] == "active"
        assert made["webhook"]["description"] == "Ours"
        assert gained[0].actor.startswith("key_")
        seen = api.get(f"/webhooks/{made['webhook']['id']}")
        assert json.loads(seen.content) == made["webhook"]

    def test_a_replay_has_no_secret(self, cast, api):
        first = json.loads(api.post("/webhooks", draft(), Idempotency_Key="one").content)
        again = json.loads(api.post("/webhooks", draft(), Idempotency_Key="one").content)
        assert again == {"webhook": first["webhook"], "secret": None, "secret_status": "already_shown"}
        with tenancy.within(cast.acme.id):
            assert Endpoint.objects.count() == 1
        assert not calls.rows(
            "SELECT FROM keys_idempotencyrecord WHERE answer::text LIKE %s", f"%{first['secret'][:20]}%"
        )

    @pytest.mark.parametrize(
        ("change", "place"),
        [
            ({"url": "https://10.0.0.1/"}, "url"),
            ({"url": "ftp://1.1.1.1/"}, "url"),
            ({"url": 7}, "url"),
            ({"acts": []}, "acts"),
            ({"acts": ["key.created", "key.imagined"]}, "acts[1]"),
            ({"acts": "key.created"}, "acts"),
            ({"description": "x" * 201}, "description"),
            ({"secret": "whsec_x"}, "secret"),
            ({"id": "whk_mine"}, "id"),
        ],
    )
    def test_refuses(self, cast, api, change, place):
        with builders.gains(cast.acme.id):
            found = json.loads(api.post("/webhooks", draft(**change)).content)
        assert found["status"] == 422
        assert where(found) == [place]

    def test_twenty_at_most(self, cast, api):
        for _ in range(20):
            make(api)
        is_problem(api.post("/webhooks", draft()), 409, "webhook_cap_reached")

    def test_the_cap_holds_in_a_race(self, cast, api):
        for _ in range(17):
            make(api)
        statuses = [
            answer.status_code for answer in calls.at_once(8, lambda _: api.post("/webhooks", draft()))
        ]
        assert sorted(statuses) == [201] * 3 + [409] * 5


class TestWho:
    def test_needs_the_scope(self, cast):
        api = calls.program(cast.acme, cast.alice, ["keys:read"])
        is_problem(api.get("/webhooks"), 403, "insufficient_scope")

    def test_needs_a_key_of_the_whole_organization(self, cast):
        below = builders.project(builders.root(cast.acme))
        api = calls.program(cast.acme, cast.alice, ["webhooks:write"], project=below)
        for answer in (api.get("/webhooks"), api.post("/webhooks", draft()), api.get("/webhooks/whk_x")):
            is_problem(answer, 403, "forbidden")

    def test_a_strangers_and_an_unknown_one_are_the_same_bytes(self, cast, api):
        theirs = make(calls.program(cast.elsewhere, cast.mallory, ["webhooks:write"]))["webhook"]["id"]
        for method, tail, body in (
            ("GET", "", None),
            ("PATCH", "", {"description": "mine"}),
            ("DELETE", "", None),
            ("POST", "/rotate-secret", None),
            ("POST", "/test", None),
            ("GET", "/deliveries", None),
            ("POST", "/deliveries/msg_x/resend", None),
            ("POST", "/resend", {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}),
        ):
            found = api.send(method, f"/webhooks/{theirs}{tail}", body)
            unknown = api.send(method, f"/webhooks/whk_{'a' * 20}{tail}", body)
            is_problem(found, 404, "not_found")
            assert without_id(found) == without_id(unknown)
        with tenancy.within(cast.elsewhere.id):
            assert Endpoint.objects.get().description == ""


class TestOne:
    def test_list_pages(self, api):
        made = sorted(make(api)["webhook"]["id"] for _ in range(3))
        first = json.loads(api.get("/webhooks?limit=2").content)
        rest = json.loads(api.get(f"/webhooks?limit=2&cursor={first['next_cursor']}").content)
        assert [each["id"] for each in first["data"] + rest["data"]] == made
        assert rest["next_cursor"] is None

    def test_change(self, cast, api):
        hook = make(api)["webhook"]["id"]
        with builders.gains(cast.acme.id, "webhook.changed"):
            found = json.loads(api.patch(f"/webhooks/{hook}", {"acts": ["*", "key.*"]}).content)
        assert (found["acts"], found["url"]) == (["*"], URL)
        with builders.gains(cast.acme.id, "webhook.disabled"):
            found = json.loads(api.patch(f"/webhooks/{hook}", {"enabled": False}).content)
        assert (found["status"], found["disabled_reason"]) == ("disabled", "person")
        with builders.gains(cast.acme.id):
            api.patch(f"/webhooks/{hook}", {"enabled": False})
        with builders.gains(cast.acme.id, "webhook.changed"):
            found = json.loads(api.patch(f"/webhooks/{hook}", {"enabled": True}).content)
        assert (found["status"], found["disabled_at"]) == ("active", None)
        with builders.gains(cast.acme.id):
            assert api.patch(f"/webhooks/{hook}", {"url": "https://[::1]/"}).status_code == 422

    def test_rotate(self, cast, api):
        made = make(api)
        hook = made["webhook"]["id"]
        with builders.gains(cast.acme.id, "webhook.secret_rotated"):
            first = json.loads(api.post(f"/webhooks/{hook}/rotate-secret", Idempotency_Key="r").content)
            again = json.loads(api.post(f"/webhooks/{hook}/rotate-secret", Idempotency_Key="r").content)
        assert SECRET.fullmatch(first["secret"])
        assert first["secret"] != made["secret"]
        assert (again["secret"], again["secret_status"]) == (None, "already_shown")
        with tenancy.within(cast.acme.id):
            assert EndpointSecret.objects.count() == 2

    def test_delete(self, cast, api):
        hook = make(api)["webhook"]["id"]
        with builders.gains(cast.acme.id, "webhook.removed"):
            assert api.delete(f"/webhooks/{hook}").status_code == 204
        is_problem(api.delete(f"/webhooks/{hook}"), 404, "not_found")

    def test_a_test_event(self, cast, api):
        hook = make(api)["webhook"]["id"]
        answer = api.post(f"/webhooks/{hook}/test")
        found = json.loads(answer.content)
        assert (answer.status_code, found["act"], found["index"], found["state"]) == (
            202,
            "webhook.test",
            None,
            "pending",
        )
        is_problem(api.post(f"/webhooks/{hook}/test"), 409, "state_forbids")
        listed = json.loads(api.get(f"/webhooks/{hook}/deliveries").content)
        assert listed == {"data": [found], "next_cursor": None}


class TestDeliveries:
    def queue(self, endpoint_id, where, count):
        now = timezone.now()
        with tenancy.within(where.id):
            for i in range(count):
                Delivery.objects.create(
                    id=f"msg_{endpoint_id}{i}",
                    organization_id=where.id,
                    endpoint_id=endpoint_id,
                    epoch=1,
                    index=i,
                    act="key.changed",
                    created_at=now - timedelta(seconds=i // 2),
                    state="failed",
                    finished_at=now,
                )

    def test_pages_and_states(self, cast, api):
        hook = make(api)["webhook"]["id"]
        self.queue(hook, cast.acme, 5)
        seen, cursor = [], ""
        while cursor is not None:
            page = json.loads(api.get(f"/webhooks/{hook}/deliveries?limit=2{cursor}").content)
            seen += [each["id"] for each in page["data"]]
            cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"
        assert len(seen) == len(set(seen)) == 5
        assert json.loads(api.get(f"/webhooks/{hook}/deliveries?state=delivered").content)["data"] == []
        assert api.get(f"/webhooks/{hook}/deliveries?cursor=bm9uZQ").status_code == 422

    def test_resend(self, cast, api):
        hook = make(api)["webhook"]["id"]
        self.queue(hook, cast.acme, 1)
        with builders.gains(cast.acme.id, "webhook.resent"):
            answer = api.post(f"/webhooks/{hook}/deliveries/msg_{hook}0/resend")
        assert (answer.status_code, json.loads(answer.content)["state"]) == (202, "pending")
        api.patch(f"/webhooks/{hook}", {"enabled": False})
        is_problem(api.post(f"/webhooks/{hook}/deliveries/msg_{hook}0/resend"), 409, "state_forbids")
        is_problem(api.post(f"/webhooks/{hook}/deliveries/msg_none/resend"), 404, "not_found")

    def test_resend_a_time(self, cast, api):
        hook = make(api, acts=["project.*"])["webhook"]["id"]
        builders.project(builders.root(cast.acme))
        now = timezone.now()
        times = {"from": (now - timedelta(hours=1)).isoformat(), "to": (now + timedelta(hours=1)).isoformat()}
        answer = api.post(f"/webhooks/{hook}/resend", times)
        assert (answer.status_code, json.loads(answer.content)) == (202, {"deliveries": 1})
        assert (
            api.post(f"/webhooks/{hook}/resend", {"from": times["to"], "to": times["from"]}).status_code
            == 422
        )
