"""A secret in a wrong place: refused where it would be kept, hidden where it would be shown again."""

import pytest

from keys import secret as secrets
from keys.errors import Invalid
from keys.policy import check_description, check_note, check_tags, check_team
from orgs.forms import InvitationForm, NameField
from orgs.roles import Role
from tests import builders, key_builders

# The same in every process of a run: parameters are made of it.
_BODY = "ks_cp_live_" + secrets.ALPHABET[:43]
SECRET = _BODY + secrets.check(_BODY)
HIDDEN = SECRET[: len("ks_cp_live_") + secrets.HINT_LENGTH] + "…"
TAIL = SECRET[-30:]


@pytest.fixture
def alice(cast):
    return builders.signed_in(cast.alice)


class TestKept:
    @pytest.mark.parametrize(
        ("check", "value"),
        [
            (check_description, f"It is {SECRET}."),
            (check_note, f"cut: {SECRET[:40]}"),
            (check_team, SECRET),
            (check_tags, {"secret": SECRET}),
        ],
    )
    def test_the_fields_of_a_key_refuse_it(self, check, value):
        with pytest.raises(Invalid, match="looks like a secret") as refused:
            check(value)
        assert TAIL not in str(refused.value)

    @pytest.mark.parametrize(
        "text", [HIDDEN, "ks_cp_live_", "in_live_performance", "key_abcdefghijklmnopqrst"]
    )
    def test_what_may_be_seen_may_be_kept(self, text):
        assert check_note(text) == text
        assert NameField().clean(text) == text

    def test_names_and_addresses_refuse_it(self):
        sent = {"email": f"{SECRET}@example.com", "role": "viewer"}
        form = InvitationForm(sent, roles=[Role.VIEWER], projects=[])
        assert "looks like a secret" in str(form.errors["email"])

    def test_the_page_keeps_what_else_was_typed_and_hides_the_secret(self, alice, cast):
        sent = key_builders.form(cast.acme, alice, name="typed", description=f"It is {SECRET}.")
        with builders.gains(cast.acme.id):
            response = alice.post("/keys/new", sent)
        page = response.content.decode()
        assert response.status_code == 422
        assert 'value="typed"' in page
        assert f"It is {HIDDEN}." in page
        assert TAIL not in page

    def test_the_ledger_hides_it_wherever_it_came_from(self, alice, cast):
        created = key_builders.create(cast.acme, cast.alice)
        with builders.gains(cast.acme.id, "key.disabled") as gained:
            alice.post(
                f"/keys/{created.key.id}/disable",
                {"minutes": ""},
                headers={"User-Agent": f"curl {SECRET}", "X-Request-Id": SECRET},
            )
        page = alice.get(f"/log/{gained[0].i}").content.decode()
        assert f"curl {HIDDEN}" in page
        assert SECRET not in gained[0].data["request_id"]


class TestShown:
    def test_no_request_id(self, client):
        response = client.get("/login", headers={"X-Request-Id": SECRET})
        assert response["X-Request-Id"].startswith("req_")
        assert client.get("/login", headers={"X-Request-Id": "mine"})["X-Request-Id"] == "mine"

    def test_no_address(self, alice, client):
        assert TAIL not in client.get(f"/log?target={SECRET}")["Location"]
        assert alice.get(f"/log?target={SECRET}")["Location"] == "/log"
        for path in (f"/keys/{SECRET}", f"/settings/projects/{SECRET}/rename", f"/v1/{SECRET}"):
            response = alice.get(path)
            assert response.status_code == 404
            assert TAIL not in response.content.decode()

    def test_only_the_page_that_makes_one(self, alice, cast):
        response = alice.post("/keys/new", key_builders.form(cast.acme, alice))
        assert len(key_builders.secrets_in(response)) == 1
