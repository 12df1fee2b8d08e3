"""What GitHub's secret scanning reports: whom we believe, what becomes of a key, and what we answer."""

import base64
import hashlib
import json
from urllib.parse import unquote

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from django.core.cache import cache
from django.db import connection

from audit import tenancy
from keys import callers
from keys.leaks import scanning
from keys.models import Incident, KeyPolicy, Leak
from keys.services import disable_key
from tests import builders, key_builders, leak_builders, vectors
from tests.api import calls
from tests.api.calls import is_problem
from tests.key_builders import entries, verify
from tests.leak_builders import PATH, PLACE, Partner, found


@pytest.fixture
def partner(settings, tmp_path):
    one = Partner()
    leak_builders.believed(settings, tmp_path, one)
    return one


def policy(where, action):
    with tenancy.within(where.id):
        KeyPolicy.objects.update_or_create(organization_id=where.id, defaults={"leak_action": action})


@pytest.fixture
def acme(cast):
    policy(cast.acme, "revoke")
    return cast.acme


def labels(response):
    assert response.status_code == 200, response.content
    return json.loads(response.content)


def gained(where, before):
    return [entry for entry in entries(where)[before:] if entry["act"] != "ledger.opened"]


def hashed(token):
    return base64.b64encode(hashlib.sha256(token.encode()).digest()).decode()


class TestKnownAnswer:
    vector = vectors.load("secret_scanning")

    @pytest.fixture(autouse=True)
    def _github(self, settings, tmp_path):
        spki = self.vector["public_key_spki_b64"]
        pem = f"-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n"
        file = tmp_path / "keys.json"
        file.write_text(leak_builders.document(("github", pem)))
        settings.SECRET_SCANNING_KEYS = str(file)

    def send(self, body, **headers):
        given = {
            "Github_Public_Key_Identifier": "github",
            "Github_Public_Key_Signature": self.vector["signature_b64"],
        }
        return calls.Api(None).send("POST", PATH, raw=body, **{**given, **headers})

    def test_it_is_believed_and_is_none_of_ours(self):
        assert labels(self.send(self.vector["body"].encode())) == [
            {"token_hash": hashed("some_token"), "token_type": "some_type", "label": "false_positive"}
        ]

    @pytest.mark.parametrize(
        "change", [lambda b: b + b"\n", lambda b: b" " + b, lambda b: b.replace(b"url", b"urI")]
    )
    def test_one_byte_more_or_other_and_it_is_not(self, change):
        is_problem(self.send(change(self.vector["body"].encode())), 401, "invalid_signature")

    def test_another_key_id_is_refused(self):
        answer = self.send(self.vector["body"].encode(), Github_Public_Key_Identifier="somebody")
        is_problem(answer, 401, "invalid_signature")
        assert answer["WWW-Authenticate"]


class TestAHit:
    def test_is_dead_within_the_request_with_its_entries_and_incident(self, partner, cast, acme):
        made, before = key_builders.create(acme, cast.alice), len(entries(acme))
        assert verify(made.secret, acme) == "VALID"
        answer = labels(partner.send([found(made.secret)]))
        assert answer == [
            {"token_hash": hashed(made.secret), "token_type": "keystead_api_key", "label": "true_positive"}
        ]
        assert verify(made.secret, acme) == "REVOKED"
        revoked, leaked = gained(acme, before)
        assert (revoked["act"], leaked["act"]) == ("key.revoked", "key.leaked")
        assert revoked["data"] | {"reason": "leaked", "version": 1} == revoked["data"]
        with tenancy.within(acme.id):
            incident = Incident.objects.get(keys__key_id=made.key.id)
        assert (incident.kind, incident.url, incident.source) == ("leak", PLACE, "github")
        assert (
            leaked["data"]
            | {
                "target": made.key.id,
                "source": "github",
                "url": PLACE,
                "version": 1,
                "outcome": "revoked",
                "incident": incident.id,
            }
            == leaked["data"]
        )
        assert leaked["actor"] == "sys_scanning"
        assert made.secret not in json.dumps(entries(acme))

    def test_a_quarantined_key_is_disabled_and_can_come_back(self, partner, cast, acme):
        policy(acme, "quarantine")
        made, before = key_builders.create(acme, cast.alice), len(entries(acme))
        labels(partner.send([found(made.secret)]))
        assert verify(made.secret, acme) == "DISABLED"
        assert [entry["act"] for entry in gained(acme, before)] == ["key.disabled", "key.leaked"]
        assert key_builders.read(made.key.id, acme).disabled_until is None

    def test_one_that_was_to_come_back_by_itself_no_longer_does(self, partner, cast, acme):
        policy(acme, "quarantine")
        made = key_builders.create(acme, cast.alice)
        with tenancy.within(acme.id):
            from datetime import timedelta

            from keys import clock

            disable_key(
                made.key,
                actor=callers.of_member(cast.member(cast.alice)),
                until=clock.now() + timedelta(minutes=15),
            )
        labels(partner.send([found(made.secret)]))
        assert key_builders.read(made.key.id, acme).is_disabled

    def test_again_at_the_same_place_is_no_news(self, partner, cast, acme):
        made = key_builders.create(acme, cast.alice)
        labels(partner.send([found(made.secret), found(made.secret)]))
        before = len(entries(acme))
        assert labels(partner.send([found(made.secret)]))[0]["label"] == "true_positive"
        assert len(entries(acme)) == before

    def test_at_another_place_it_is_told_but_nothing_is_left_to_stop(self, partner, cast, acme):
        made = key_builders.create(acme, cast.alice)
        labels(partner.send([found(made.secret)]))
        before = len(entries(acme))
        labels(partner.send([found(made.secret, "https://github.com/other")]))
        (leaked,) = gained(acme, before)
        assert (leaked["act"], leaked["data"]["outcome"], leaked["data"]["incident"]) == (
            "key.leaked",
            "nothing",
            None,
        )
        with tenancy.within(acme.id):
            assert Incident.objects.filter(keys__key_id=made.key.id).count() == 1

    def test_many_at_once_stop_it_once(self, partner, cast, acme):
        made, before = key_builders.create(acme, cast.alice), len(entries(acme))
        answers = calls.at_once(8, lambda _: partner.send([found(made.secret)]))
        assert {answer.status_code for answer in answers} == {200}
        assert [entry["act"] for entry in gained(acme, before)] == ["key.revoked", "key.leaked"]

    def test_keys_of_several_organizations_each_get_their_own(self, partner, cast, acme):
        policy(cast.elsewhere, "quarantine")
        ours, theirs = (
            key_builders.create(acme, cast.alice),
            key_builders.create(cast.elsewhere, cast.mallory),
        )
        labels(partner.send([found(theirs.secret), found("ks_cp_live_nonsense"), found(ours.secret)]))
        assert (verify(ours.secret, acme), verify(theirs.secret, cast.elsewhere)) == ("REVOKED", "DISABLED")
        with tenancy.within(acme.id):
            assert not Leak.objects.filter(key_id=theirs.key.id).exists()

    def test_a_suspended_organization_too(self, partner):
        owner = builders.person("Owner")
        where = builders.organization("Suspended", owner=owner)
        made = key_builders.create(where, owner)
        from orgs import services as org_services

        org_services.suspend_organization(where, actor=builders.OPERATOR)
        labels(partner.send([found(made.secret)]))
        assert key_builders.read(made.key.id, where).revocation_reason == "leaked"

    def test_one_that_fails_does_not_stop_the_rest(self, partner, cast, acme, monkeypatch):
        first, second = key_builders.create(acme, cast.alice), key_builders.create(acme, cast.alice)
        from keys import services

        real = services.report_leak

        def broken(held, **how):
            if held.key_id == first.key.id:
                raise connection.Database.OperationalError("out of reach")
            return real(held, **how)

        monkeypatch.setattr(services, "report_leak", broken)
        assert partner.send([found(first.secret), found(second.secret)]).status_code >= 500
        assert (verify(first.secret, acme), verify(second.secret, acme)) == ("VALID", "REVOKED")
        monkeypatch.undo()
        assert partner.send([found(first.secret), found(second.secret)]).status_code == 200
        assert verify(first.secret, acme) == "REVOKED"


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "kept"),
        [
            ("https://user:pass@example.com/x", "https://example.com/x"),
            ("https://example.com/\x00\n\u202eé", "https://example.com/%00%0A%E2%80%AE%C3%A9"),
            ("javascript:alert(1)", "javascript:alert(1)"),
            ("https://[broken", "https://[broken"),
            ("", ""),
        ],
    )
    def test_are_kept_as_plain_text(self, partner, cast, acme, url, kept):
        made = key_builders.create(acme, cast.alice)
        labels(partner.send([found(made.secret, url)]))
        with tenancy.within(acme.id):
            assert Leak.objects.get(key_id=made.key.id).url == kept

    def test_a_secret_in_it_is_hidden(self, partner, cast, acme):
        made, other = key_builders.create(acme, cast.alice), key_builders.create(acme, cast.alice)
        before = len(entries(acme))
        labels(partner.send([found(made.secret, f"https://example.com/?key={other.secret}#{made.secret}")]))
        text = json.dumps(gained(acme, before))
        assert made.secret not in text
        assert other.secret not in text
        with tenancy.within(acme.id):
            assert other.secret[20:] not in Leak.objects.get(key_id=made.key.id).url

    def test_so_is_one_that_is_percent_encoded(self, partner, cast, acme):
        made = key_builders.create(acme, cast.alice)
        hidden = made.secret.replace("_", "%5f").replace("a", "%61")
        labels(partner.send([found(made.secret, f"https://example.com/a%20b?key={hidden}")]))
        with tenancy.within(acme.id):
            kept = Leak.objects.get(key_id=made.key.id).url
        assert made.secret[20:] not in unquote(kept)
        assert kept.startswith("https://example.com/a%20b?key=ks_")

    def test_a_long_one_is_cut(self, partner, cast, acme):
        made = key_builders.create(acme, cast.alice)
        labels(partner.send([found(made.secret, "https://example.com/" + "é" * 20_000)]))
        with tenancy.within(acme.id):
            assert len(Leak.objects.get(key_id=made.key.id).url) == 1_000


class TestSignatures:
    def test_without_keys_it_is_not_there(self, settings):
        settings.SECRET_SCANNING_KEYS = ""
        is_problem(Partner().send([]), 404, "not_found")

    def test_of_somebody_else_are_refused(self, partner, cast, acme):
        made = key_builders.create(acme, cast.alice)
        is_problem(Partner().send([found(made.secret)]), 401, "invalid_signature")
        assert verify(made.secret, acme) == "VALID"

    def test_on_another_curve_are_refused(self, settings, tmp_path):
        for curve in (ec.SECP384R1(), ec.SECP256K1()):
            other = Partner(curve)
            leak_builders.believed(settings, tmp_path, other)
            is_problem(other.send([]), 401, "invalid_signature")

    @pytest.mark.parametrize(
        "signature", ["", "!", "AAAA", "x" * 300, "MEUCIQ==", base64.b64encode(b"\x30\x80" * 30).decode()]
    )
    def test_that_are_none_are_refused(self, partner, signature):
        answer = partner.send([], Github_Public_Key_Signature=signature)
        is_problem(answer, 401, "invalid_signature")

    @pytest.mark.parametrize("identifier", ["", "x" * 500, "../../etc/passwd", "partner-1\x00"])
    def test_by_keys_that_there_are_not_are_refused(self, partner, identifier):
        is_problem(partner.send([], Github_Public_Key_Identifier=identifier), 401, "invalid_signature")

    def test_keys_that_are_no_keys_are_refused(self, partner, settings, tmp_path):
        file = tmp_path / "odd.json"
        file.write_text(leak_builders.document((partner.identifier, "no PEM")))
        settings.SECRET_SCANNING_KEYS = str(file)
        is_problem(partner.send([]), 401, "invalid_signature")

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"public_keys": 1}'])
    def test_a_broken_file_is_503(self, partner, settings, tmp_path, text):
        file = tmp_path / "broken.json"
        file.write_text(text)
        settings.SECRET_SCANNING_KEYS = str(file)
        answer = partner.send([])
        is_problem(answer, 503, "unavailable")
        assert answer["Retry-After"]

    def test_the_raw_body_counts_not_its_meaning(self, partner):
        answer = partner.send(raw=b'[ {"token":"x","type":"y"} ]', signed=b'[{"token":"x","type":"y"}]')
        is_problem(answer, 401, "invalid_signature")


class TestBodies:
    @pytest.mark.parametrize(
        "raw", [b"", b"{", b'[{"token": "a", "token": "b", "type": "c"}]', b"[NaN]", b"\xff", b"[" * 50_000]
    )
    def test_broken_ones_are_400(self, partner, raw):
        is_problem(partner.send(raw=raw), 400, "invalid_request")

    @pytest.mark.parametrize(
        "body",
        [
            {},
            "x",
            7,
            [7],
            [[]],
            [{"token": 7, "type": "x"}],
            [{"type": "x"}],
            [{"token": "x"}],
            [{"token": "x", "type": "y" * 300}],
            [{"token": "x", "type": "\ud800"}],
            [{"token": "x", "type": "y", "url": 7}],
            [{"token": "x", "type": "y"}] * 1_001,
        ],
    )
    def test_others_are_422(self, partner, body):
        is_problem(partner.send(body), 422, "invalid_value")

    def test_what_is_new_in_the_format_is_left_out(self, partner):
        odd = {"token": "\ud800\x00", "type": "t", "url": None, "source": 7, "more": {}}
        assert labels(partner.send([odd, {"token": "", "type": "t"}]))[1]["label"] == "false_positive"

    def test_none_is_an_answer(self, partner):
        assert labels(partner.send([])) == []

    def test_too_large_is_413(self, partner):
        is_problem(partner.send([found("x" * 300_000)]), 413, "body_too_large")

    def test_unknown_ones_take_one_statement(self, partner, django_assert_max_num_queries):
        with django_assert_max_num_queries(12):
            assert len(labels(partner.send([found(f"ks_cp_live_{n}") for n in range(1_000)]))) == 1_000


class TestFetching:
    """Keys at an address: asked for once a minute over all processes, whoever names an unknown one."""

    URL = "https://partner.example/keys"

    @pytest.fixture(autouse=True)
    def _anew(self):
        cache.clear()

    def serve(self, monkeypatch, settings, *answers):
        """Answer each question in turn; yields what was asked."""
        asked = []
        left = list(answers)

        def fetched(url):
            asked.append(url)
            answer = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(answer, Exception):
                raise answer
            return answer.encode()

        settings.SECRET_SCANNING_KEYS = self.URL
        monkeypatch.setattr("keys.leaks.partner_keys._fetched", fetched)
        return asked

    def test_are_fetched_once_and_shared(self, monkeypatch, settings):
        partner = Partner()
        asked = self.serve(monkeypatch, settings, leak_builders.document((partner.identifier, partner.pem)))
        assert [partner.send([]).status_code for _ in range(3)] == [200, 200, 200]
        assert asked == [self.URL]

    def test_an_unknown_one_asks_again_after_a_minute_alone(self, monkeypatch, settings):
        old, new = Partner(), Partner(identifier="partner-2")
        asked = self.serve(
            monkeypatch,
            settings,
            leak_builders.document((old.identifier, old.pem)),
            leak_builders.document((new.identifier, new.pem)),
        )
        assert old.send([]).status_code == 200
        assert {new.send([]).status_code for _ in range(5)} == {401}
        assert len(asked) == 1
        cache.delete("secret-scanning:asked")
        assert new.send([]).status_code == 200
        assert old.send([]).status_code == 401
        assert len(asked) == 2

    def test_many_at_once_ask_once(self, monkeypatch, settings):
        partner = Partner()
        asked = self.serve(monkeypatch, settings, leak_builders.document((partner.identifier, partner.pem)))
        answers = calls.at_once(8, lambda _: partner.send([]))
        assert len(asked) == 1
        assert {answer.status_code for answer in answers} <= {200, 503}

    def test_where_nothing_comes_the_partner_may_try_again(self, monkeypatch, settings):
        asked = self.serve(monkeypatch, settings, ValueError("no success"))
        assert {Partner().send([]).status_code for _ in range(3)} == {503}
        assert len(asked) == 1


def test_the_pattern_finds_every_secret(cast):
    import re

    made = key_builders.create(cast.acme, cast.alice)
    assert re.search(scanning.pattern(), f'KEY="{made.secret}"')[0] == made.secret
    assert re.search(scanning.pattern(), f"{made.secret}x") is None
