"""The webhooks' pages: what owners and admins do with them, and what nobody else sees."""

import re
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from django.urls import reverse
from django.utils import timezone

from audit import services, tenancy
from audit.models import Attempt, Delivery, Endpoint, EndpointSecret
from audit.webhooks.forms import new_token
from tests import builders

URL = "https://1.1.1.1/hook?token=capability"
SECRET = re.compile(r"whsec_[A-Za-z0-9+/]{43}=")


@pytest.fixture
def cast():
    return builders.cast()


@pytest.fixture
def alice(cast):
    return builders.signed_in(cast.alice)


def make(cast, *acts, url=URL, description=""):
    with tenancy.within(cast.acme.id):
        return services.create_endpoint(
            cast.acme.id, url, acts or ["key.*"], actor=cast.member(cast.alice), description=description
        ).endpoint


def form(**changes):
    return {"url": URL, "acts": ["key.*"], "description": "", "token": new_token(), **changes}


def post(client, name, *arguments, **data):
    return client.post(reverse(f"audit:{name}", args=arguments), data)


def fresh(endpoint):
    with tenancy.within(endpoint.organization_id):
        return Endpoint.objects.filter(pk=endpoint.pk).first()


def text(response):
    return response.content.decode()


class TestList:
    def test_without_any_it_says_what_they_are_for(self, alice):
        assert "No webhooks yet" in text(alice.get("/webhooks"))

    def test_shows_no_path_of_a_url(self, cast, alice):
        make(cast, "key.*", "rotation.*", "member.*", "webhook.*")
        page = text(alice.get("/webhooks"))
        assert "https://1.1.1.1<" in page
        assert "capability" not in page
        assert "+1" in page
        assert "Active" in page

    def test_only_ones_own(self, cast):
        make(cast)
        assert "1.1.1.1" not in text(builders.signed_in(cast.mallory).get("/webhooks"))

    def test_the_frame_shows_the_way_to_whom_it_may_concern(self, cast, alice):
        assert 'href="/webhooks"' in text(alice.get("/"))
        assert 'href="/webhooks"' not in text(builders.signed_in(cast.bob).get("/"))


class TestCreating:
    def test_shows_the_secret_once_and_keeps_it_encrypted(self, cast, alice):
        with builders.gains(cast.acme.id, "webhook.created") as gained:
            response = post(alice, "webhook_create", **form(acts=["key.*", "key.revoked", "member.joined"]))
        (secret,) = set(SECRET.findall(text(response)))
        assert response.status_code == 200
        assert response["Cache-Control"] == "no-store"
        with tenancy.within(cast.acme.id):
            endpoint = Endpoint.objects.get()
            stored = bytes(EndpointSecret.objects.get().sealed)
        assert endpoint.acts == ["key.*", "member.joined"]
        assert secret.encode() not in stored
        assert gained[0].data["url"] == "https://1.1.1.1"
        assert gained[0].actor == cast.alice.id
        assert "capability" not in str(gained[0].data)
        assert SECRET.search(text(alice.get(f"/webhooks/{endpoint.id}"))) is None

    def test_a_second_press_makes_no_second(self, cast, alice):
        sent = form()
        post(alice, "webhook_create", **sent)
        again = post(alice, "webhook_create", **sent)
        assert again.status_code == 303
        assert SECRET.search(text(again)) is None
        with tenancy.within(cast.acme.id):
            assert Endpoint.objects.count() == 1

    def test_without_a_token_nothing_is_made(self, cast, alice):
        assert post(alice, "webhook_create", **form(token="")).status_code == 422
        with tenancy.within(cast.acme.id):
            assert not Endpoint.objects.exists()

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"url": "https://127.0.0.1/"}, "private or reserved"),
            ({"url": "http://1.1.1.1/"}, "must begin with https"),
            ({"url": "https://1.1.1.1:22/"}, "port 443 or 8443"),
            ({"acts": []}, "at least one"),
            ({"acts": ["key.imagined"]}, "not one of the available"),
            ({"description": "x" * 201}, "at most 200"),
        ],
    )
    def test_refuses_at_the_field_and_keeps_what_was_typed(self, cast, alice, change, reason):
        response = post(alice, "webhook_create", **form(**{"description": "Kept words", **change}))
        assert response.status_code == 422
        assert reason in text(response)
        assert "Kept words" in text(response) or "description" in change
        with tenancy.within(cast.acme.id):
            assert not Endpoint.objects.exists()

    def test_a_secret_in_the_url_is_neither_kept_nor_given_back(self, cast, alice):
        secret = "whsec_" + "A" * 44
        response = post(alice, "webhook_create", **form(url=f"https://1.1.1.1/{secret}"))
        assert response.status_code == 422
        assert secret not in text(response)

    def test_twenty_at_most(self, cast, alice):
        for _ in range(services.webhooks.MOST_ENDPOINTS):
            make(cast)
        assert "New webhook" not in text(alice.get("/webhooks"))
        response = post(alice, "webhook_create", **form())
        assert response.status_code == 422
        assert "at most 20" in text(response)

    def test_needs_the_password_again(self, cast, alice, time_machine):
        paths = ["/webhooks/new", f"/webhooks/{make(cast).id}/rotate", f"/webhooks/{make(cast).id}/edit"]
        time_machine.move_to(timezone.now() + timedelta(minutes=6))
        for path in paths:
            for response in (alice.get(path), alice.post(path, form())):
                assert response.status_code == 303
                assert (
                    response["Location"] == f"{reverse('account_reauthenticate')}?{urlencode({'next': path})}"
                )
        with tenancy.within(cast.acme.id):
            assert Endpoint.objects.count() == 2


class TestOne:
    def test_change(self, cast, alice):
        endpoint = make(cast)
        with builders.gains(cast.acme.id, "webhook.changed") as gained:
            response = post(
                alice, "webhook_edit", endpoint.id, **form(url="https://1.1.1.1:8443/other", acts=["*"])
            )
        assert response.status_code == 303
        assert (fresh(endpoint).url, fresh(endpoint).acts) == ("https://1.1.1.1:8443/other", ["*"])
        assert gained[0].data["before"] == {"url": "https://1.1.1.1", "acts": ["key.*"]}
        assert gained[0].data["after"] == {"url": "https://1.1.1.1:8443", "acts": ["*"]}

    def test_nothing_changed_is_no_entry(self, cast, alice):
        endpoint = make(cast)
        with builders.gains(cast.acme.id):
            post(alice, "webhook_edit", endpoint.id, **form())

    def test_rotate_once(self, cast, alice):
        endpoint = make(cast)
        with builders.gains(cast.acme.id, "webhook.secret_rotated"):
            first = post(alice, "webhook_rotate", endpoint.id, version=1)
            again = post(alice, "webhook_rotate", endpoint.id, version=1)
        assert SECRET.search(text(first))
        assert again.status_code == 422
        assert SECRET.search(text(again)) is None
        assert 'value="2"' in text(again)

    def test_five_secrets_sign_at_most(self, cast, alice):
        endpoint = make(cast)
        for version in range(1, 5):
            assert post(alice, "webhook_rotate", endpoint.id, version=version).status_code == 200
        assert post(alice, "webhook_rotate", endpoint.id, version=5).status_code == 422

    def test_disable_and_enable(self, cast, alice):
        endpoint = make(cast)
        with builders.gains(cast.acme.id, "webhook.disabled", "webhook.changed"):
            post(alice, "webhook_disable", endpoint.id)
            assert fresh(endpoint).is_disabled
            post(alice, "webhook_disable", endpoint.id)
            post(alice, "webhook_enable", endpoint.id)
            post(alice, "webhook_enable", endpoint.id)
        assert not fresh(endpoint).is_disabled

    def test_remove(self, cast, alice):
        endpoint = make(cast)
        assert alice.get(f"/webhooks/{endpoint.id}/remove").status_code == 200
        with builders.gains(cast.acme.id, "webhook.removed"):
            assert post(alice, "webhook_remove", endpoint.id).status_code == 303
        assert fresh(endpoint) is None
        assert alice.get(f"/webhooks/{endpoint.id}").status_code == 404

    def test_a_test_event_is_sent_one_at_a_time(self, cast, alice):
        endpoint = make(cast)
        with builders.gains(cast.acme.id, "webhook.tested"):
            post(alice, "webhook_test", endpoint.id)
            post(alice, "webhook_test", endpoint.id)
        with tenancy.within(cast.acme.id):
            assert Delivery.objects.get().act == "webhook.test"


class TestDeliveries:
    @pytest.fixture
    def endpoint(self, cast):
        return make(cast)

    def deliver(self, endpoint, count, state="delivered", **attempt):
        now = timezone.now()
        with tenancy.within(endpoint.organization_id):
            start = Delivery.objects.count()
            for i in range(start, start + count):
                row = Delivery.objects.create(
                    id=f"msg_{endpoint.id}{i:04}",
                    organization_id=endpoint.organization_id,
                    endpoint=endpoint,
                    epoch=1,
                    index=i,
                    act="key.changed",
                    created_at=now,
                    state=state,
                    finished_at=now,
                )
                Attempt.objects.create(
                    delivery=row,
                    organization_id=endpoint.organization_id,
                    at=now,
                    duration_ms=12,
                    **{"outcome": state, **attempt},
                )

    def test_pages_skip_and_repeat_nothing(self, alice, endpoint):
        self.deliver(endpoint, 120)
        seen, url = [], f"/webhooks/{endpoint.id}"
        while url:
            page = text(alice.get(url))
            seen += re.findall(r"/deliveries/(msg_\w+)\"", page)
            older = re.search(r'href="(/webhooks/[^"]*before=[^"]*)" rel="next"', page)
            url = older and older[1].replace("&amp;", "&")
        assert len(seen) == len(set(seen)) == 120

    def test_failed_alone(self, alice, endpoint):
        self.deliver(endpoint, 2)
        self.deliver(endpoint, 1, state="failed", status=500)
        page = text(alice.get(f"/webhooks/{endpoint.id}?state=failed"))
        assert page.count("/deliveries/") == 1
        assert "500" in page

    @pytest.mark.parametrize("cursor", ["x", "%00", "bm90aGluZw", "MjAyNi0wMS0wMXxh", "e30="])
    def test_a_cursor_that_is_none_is_no_page(self, alice, endpoint, cursor):
        assert alice.get(f"/webhooks/{endpoint.id}?before={cursor}").status_code == 404

    def test_what_a_receiver_answered_is_shown_as_text(self, alice, endpoint):
        self.deliver(endpoint, 1, state="failed", status=500, text="<script>alert(1)</script>", detail="No.")
        page = text(alice.get(f"/webhooks/{endpoint.id}/deliveries/msg_{endpoint.id}0000"))
        assert "&lt;script&gt;alert(1)" in page
        assert "key.changed" in page

    def test_resend_one(self, cast, alice, endpoint):
        self.deliver(endpoint, 1, state="failed")
        path = f"/webhooks/{endpoint.id}/deliveries/msg_{endpoint.id}0000/resend"
        with builders.gains(cast.acme.id, "webhook.resent"):
            assert alice.post(path).status_code == 303
        with tenancy.within(cast.acme.id):
            assert Delivery.objects.get().state == "pending"

    def test_of_another_endpoint_it_is_not_there(self, cast, alice, endpoint):
        self.deliver(endpoint, 1)
        other = make(cast)
        assert alice.get(f"/webhooks/{other.id}/deliveries/msg_{endpoint.id}0000").status_code == 404

    def test_resend_a_time(self, cast, alice, endpoint):
        with builders.gains(cast.acme.id):
            response = post(
                alice, "webhook_resend", endpoint.id, since="2020-01-01T00:00:00", until="2020-01-02T00:00:00"
            )
            assert response.status_code == 422
            assert "Nothing that this webhook subscribes to" in text(response)
            response = post(
                alice, "webhook_resend", endpoint.id, since="2020-01-02T00:00", until="2020-01-01T00:00"
            )
            assert "after the beginning" in text(response)
        assert alice.get(f"/webhooks/{endpoint.id}/resend").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/webhooks/%00",
        "/webhooks/a%00b/edit",
        "/webhooks/a/deliveries/%00",
        "/settings/members/%00",
        "/settings/projects/%00/rename",
        "/settings/environments/%00/rename",
        "/join/%00",
    ],
)
def test_a_nul_in_an_address_leads_nowhere(alice, path):
    assert alice.get(path).status_code == 404
