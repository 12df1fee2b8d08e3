"""Burning a secret by possession: nobody authenticates, and nobody learns what became of it."""

import json
import logging

import pytest
from django.core.cache import cache

from audit import tenancy
from keys.models import Incident, KeyPolicy
from keys.rotation import Mode
from keys.services import disable_key
from orgs import services as org_services
from tests import builders, key_builders
from tests.api import calls
from tests.api.calls import is_problem
from tests.key_builders import entries, verify

PATH = "/keys/revoke"
SHAPED = "ks_cp_live_" + "0" * 43


@pytest.fixture(autouse=True)
def _uncounted():
    cache.clear()


def burn(secret, **how):
    return calls.Api(None, **how).post(PATH, {"secret": secret})


def gained(where, before):
    return [entry["act"] for entry in entries(where)[before:]]


class TestBurning:
    def test_the_key_is_dead_within_the_request(self, cast):
        made, before = key_builders.create(cast.acme, cast.alice), len(entries(cast.acme))
        answer = burn(made.secret)
        assert (answer.status_code, json.loads(answer.content)) == (202, {"status": "accepted"})
        assert verify(made.secret, cast.acme) == "REVOKED"
        assert gained(cast.acme, before) == ["key.revoked", "key.leaked"]
        key = key_builders.read(made.key.id, cast.acme)
        assert (key.revocation_reason, key.revoked_by) == ("leaked", "sys_burning")
        with tenancy.within(cast.acme.id):
            assert Incident.objects.get(keys__key_id=key.id).kind == "leak"

    def test_the_answer_is_the_same_whatever_it_was(self, cast):
        made, gone = key_builders.create(cast.acme, cast.alice), key_builders.create(cast.acme, cast.alice)
        burn(gone.secret)
        from keys.secret import check

        answers = [
            burn(text)
            for text in (
                made.secret,
                made.secret,
                gone.secret,
                SHAPED + check(SHAPED),
                SHAPED,
                "",
                "x" * 4_000,
                "\x00",
            )
        ]
        plain = {
            (answer.status_code, answer.content, *sorted(set(answer.headers) - {"X-Request-Id"}))
            for answer in answers
        }
        assert len(plain) == 1
        assert answers[0].status_code == 202

    def test_again_records_nothing(self, cast):
        made = key_builders.create(cast.acme, cast.alice)
        burn(made.secret)
        before = len(entries(cast.acme))
        burn(made.secret)
        assert gained(cast.acme, before) == []

    def test_many_at_once_burn_it_once(self, cast):
        made, before = key_builders.create(cast.acme, cast.alice), len(entries(cast.acme))
        answers = calls.at_once(8, lambda _: burn(made.secret))
        assert {answer.status_code for answer in answers} == {202}
        assert gained(cast.acme, before) == ["key.revoked", "key.leaked"]

    def test_the_policy_of_scanning_does_not_soften_it(self, cast):
        made = key_builders.create(cast.elsewhere, cast.mallory)
        with tenancy.within(cast.elsewhere.id):
            KeyPolicy.objects.update_or_create(
                organization_id=cast.elsewhere.id, defaults={"leak_action": "quarantine"}
            )
        burn(made.secret)
        assert verify(made.secret, cast.elsewhere) == "REVOKED"

    def test_a_disabled_key_goes_too(self, cast):
        made = key_builders.create(cast.acme, cast.alice)
        from keys import callers

        with tenancy.within(cast.acme.id):
            disable_key(made.key, actor=callers.of_member(cast.member(cast.alice)))
        burn(made.secret)
        assert key_builders.read(made.key.id, cast.acme).revoked_at

    def test_a_suspended_organizations_goes_too(self):
        owner = builders.person("Owner")
        where = builders.organization("Suspended", owner=owner)
        made = key_builders.create(where, owner)
        org_services.suspend_organization(where, actor=builders.OPERATOR)
        assert burn(made.secret).status_code == 202
        assert key_builders.read(made.key.id, where).revoked_at

    def test_a_key_may_burn_itself_and_its_own_credential_does_not_matter(self, cast):
        api = calls.program(cast.acme, cast.alice)
        assert api.post(PATH, {"secret": api.secret}).status_code == 202
        assert api.get("/me").status_code == 401
        assert calls.Api("garbage").post(PATH, {"secret": SHAPED}).status_code == 202


class TestWhileItIsRotated:
    """Of two accepted secrets only the burned one goes, and the rotation with it."""

    @pytest.fixture(params=["grace", "staged"])
    def two(self, request, cast):
        made = key_builders.create(cast.acme, cast.alice)
        how = {"targets": ["eu-west-1"]} if request.param == "staged" else {}
        rotated = key_builders.rotate(
            key_builders.read(made.key.id, cast.acme), cast.acme, cast.alice, mode=Mode(request.param), **how
        )
        return made, rotated

    def test_the_new_one_is_burned_and_the_key_goes_by_the_old_one_again(self, cast, two):
        made, rotated = two
        before = len(entries(cast.acme))
        assert burn(rotated.secret).status_code == 202
        assert (verify(rotated.secret, cast.acme), verify(made.secret, cast.acme)) == (
            "SECRET_RETIRED",
            "VALID",
        )
        assert gained(cast.acme, before) == ["rotation.cancelled", "key.leaked"]
        key = key_builders.read(made.key.id, cast.acme)
        assert (key.newest_version, key.revoked_at) == (1, None)
        leaked = entries(cast.acme)[-1]["data"]
        assert (leaked["version"], leaked["outcome"]) == (2, "retired")
        assert entries(cast.acme)[-2]["data"]["how"] == "burned"

    def test_the_old_one_is_burned_and_the_rotation_is_complete(self, cast, two):
        made, rotated = two
        before = len(entries(cast.acme))
        burn(made.secret)
        assert (verify(rotated.secret, cast.acme), verify(made.secret, cast.acme)) == (
            "VALID",
            "SECRET_RETIRED",
        )
        assert gained(cast.acme, before) == ["rotation.completed", "key.leaked"]

    @pytest.mark.parametrize("first", [0, 1])
    def test_then_the_other_one_and_the_key_is_gone(self, cast, two, first):
        secrets = [each.secret for each in two]
        burn(secrets[first])
        burn(secrets[1 - first])
        assert {verify(text, cast.acme) for text in secrets} == {"REVOKED"}

    def test_both_at_once_leave_nothing(self, cast, two):
        secrets = [each.secret for each in two]
        answers = calls.at_once(6, lambda n: burn(secrets[n % 2]))
        assert {answer.status_code for answer in answers} == {202}
        assert {verify(text, cast.acme) for text in secrets} == {"REVOKED"}

    def test_one_that_was_retired_before_changes_nothing(self, cast):
        made = key_builders.create(cast.acme, cast.alice)
        rotated = key_builders.rotate(made.key, cast.acme, cast.alice, mode=Mode.IMMEDIATE)
        before = len(entries(cast.acme))
        burn(made.secret)
        assert verify(rotated.secret, cast.acme) == "VALID"
        assert gained(cast.acme, before) == ["key.leaked"]
        assert entries(cast.acme)[-1]["data"]["outcome"] == "nothing"

    def test_burning_and_rotating_at_once_leave_no_burned_secret_alive(self, cast):
        from keys.errors import KeysError

        for _ in range(3):
            made = key_builders.create(cast.acme, cast.alice)

            def act(number, made=made):
                if number:
                    return burn(made.secret).status_code
                try:
                    return key_builders.rotate(made.key, cast.acme, cast.alice, mode=Mode.GRACE).secret
                except KeysError:
                    return ""

            rotated, *_ = calls.at_once(2, act)
            assert verify(made.secret, cast.acme) in {"REVOKED", "SECRET_RETIRED"}
            if rotated:
                assert verify(rotated, cast.acme) == "VALID"


class TestStrictness:
    @pytest.mark.parametrize(
        "body",
        [{}, {"secret": 7}, {"secret": None}, {"secret": "x", "key": "y"}, {"secret": "x" * 5_000}, []],
    )
    def test_a_body_of_another_form_is_422(self, body):
        is_problem(calls.Api(None).post(PATH, body), 422, "invalid_value")

    @pytest.mark.parametrize("raw", [b"{", b'{"secret": "a", "secret": "b"}', b"\xff", b"[" * 50_000])
    def test_a_broken_one_is_400(self, raw):
        is_problem(calls.Api(None).send("POST", PATH, raw=raw), 400, "invalid_request")

    def test_too_large_is_413(self):
        is_problem(calls.Api(None).post(PATH, {"secret": "x" * 300_000}), 413, "body_too_large")

    def test_a_secret_in_the_address_is_refused(self, cast):
        made = key_builders.create(cast.acme, cast.alice)
        answer = calls.Api(None).post(f"{PATH}?secret={made.secret}", {"secret": SHAPED})
        is_problem(answer, 400, "invalid_request")
        assert verify(made.secret, cast.acme) == "VALID"

    def test_other_methods_are_405(self):
        is_problem(calls.Api(None).get(PATH), 405, "method_not_allowed")

    def test_a_browsers_session_and_site_do_not_matter(self, cast):
        made = key_builders.create(cast.acme, cast.alice)
        api = calls.Api(None, client=builders.signed_in(cast.mallory))
        assert api.post(PATH, {"secret": made.secret}, Sec_Fetch_Site="cross-site").status_code == 202


class TestLimit:
    def test_an_address_may_burn_so_often_and_no_more(self, cast):
        made = key_builders.create(cast.acme, cast.alice)
        address = "198.51.100.77"
        assert {burn("x", address=address).status_code for _ in range(30)} == {202}
        answer = burn(made.secret, address=address)
        is_problem(answer, 429, "rate_limited")
        assert int(answer["Retry-After"]) > 0
        assert verify(made.secret, cast.acme) == "VALID"
        assert burn(made.secret, address="198.51.100.78").status_code == 202


def test_no_log_has_it(cast, caplog, capfd):
    from portal.logs import formatter

    made = key_builders.create(cast.acme, cast.alice)
    with caplog.at_level(logging.DEBUG):
        burn(made.secret)
        calls.Api(None).post(PATH, {made.secret: 1})
        calls.Api(None).send("POST", PATH, raw=f'{{"secret": "{made.secret}"'.encode())
    lines = [formatter().format(record) for record in caplog.records]
    assert made.secret not in "".join([*lines, *capfd.readouterr()])
    assert made.secret not in json.dumps(entries(cast.acme))
