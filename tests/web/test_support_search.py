"""The search over every organization: what it finds, who hears of it, and that nothing is shown unrecorded."""

from datetime import timedelta
from http import HTTPStatus

import pytest
from django.utils import timezone

from audit import ledger, searching, services, tenancy
from audit.errors import LedgerUnavailable
from audit.models import SupportEnd
from audit.support import searching as support_searching
from orgs.models import User
from tests import builders

WHY = "Case 4711: a key stopped working"
# Cursors in zones that the database does not know, and at the beginning of time.
FAR = ("MjAyNi0xMS0yMFQwMDowMDowMCsyMzo1OXx8MHww", "MDAwMS0wMS0wMVQwMDowMDowMCsxNDowMHx8MHww")


def record(where, user, act, target, *, data=None, request_id="", **sealed):
    actor = builders.Actor(id=user.id, name=user.name, email=user.email, request_id=request_id)
    with tenancy.within(where.id), ledger.recording(where.id, actor) as entry:
        entry(act, target=target, data=data or {}, sealed=sealed)


@pytest.fixture(scope="module")
def cast(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        return builders.cast()


@pytest.fixture
def dave():
    return builders.person("Dave Support", staff_role="support")


def searching_as(dave, reason=WHY):
    client = builders.signed_in(dave)
    response = client.post("/support/begin", {"reason": reason, "minutes": "60"})
    assert (response.status_code, response["Location"]) == (303, "/support")
    return client


def ask(client, **query):
    response = client.get("/support", query)
    assert response.status_code == HTTPStatus.OK
    return response


def found(response):
    return [(hit.customer.id, hit.line.act, hit.line.target) for hit in response.context["found"].hits]


class TestFinding:
    def test_who_revoked_a_key_across_organizations(self, cast, dave):
        key = builders.new_id("key")
        record(cast.acme, cast.bob, "key.revoked", key, data={"name": "ingest", "reason": "leaked"})
        with (
            builders.gains(cast.acme.id, "support.viewed") as told,
            builders.gains(cast.elsewhere.id),
            builders.gains(
                tenancy.operator_id(), "session.started", "support.opened", "support.viewed"
            ) as own,
        ):
            response = ask(searching_as(dave), act="key.revoked", target=key)
        assert found(response) == [(cast.acme.id, "key.revoked", key)]
        shown = response.content.decode()
        assert "Bob" in shown
        assert "reason: leaked" in shown
        assert (told[0].actor, told[0].data["page"], told[0].data["entries"]) == (dave.id, "search", 1)
        assert "reason" in told[0].sealed
        assert "query" not in told[0].sealed
        assert own[2].data["organizations"] == own[2].data["entries"] == 1
        assert "query" in own[2].sealed

    def test_the_customer_reads_it(self, cast, dave):
        key = builders.new_id("key")
        record(cast.acme, cast.bob, "key.revoked", key)
        ask(searching_as(dave, reason="Case 99: who revoked it"), target=key)
        shown = builders.signed_in(cast.alice).get("/log", {"act": "support.viewed"}).content.decode()
        assert "Case 99: who revoked it" in shown
        assert "Dave Support" in shown

    @pytest.mark.parametrize("how", ["id", "email", "name", "surname"])
    def test_by_who(self, cast, dave, how):
        somebody = builders.person(f"Zoe {builders.unique('Quark').capitalize()}")
        target = builders.new_id("key")
        for where in (cast.acme, cast.elsewhere):
            record(where, somebody, "key.changed", target)
        who = {
            "id": somebody.id,
            "email": somebody.email,
            "name": somebody.name,
            "surname": somebody.name.split()[1].lower(),
        }[how]
        response = ask(searching_as(dave), who=who)
        assert found(response) == [(w.id, "key.changed", target) for w in (cast.elsewhere, cast.acme)]

    def test_by_request_organization_and_time(self, cast, dave):
        request, target = builders.unique("req"), builders.new_id("key")
        record(cast.acme, cast.bob, "key.changed", target, request_id=request)
        client = searching_as(dave)
        day = timezone.now().date()
        assert len(found(ask(client, request=request))) == 1
        assert len(found(ask(client, request=request, organization=cast.acme.id))) == 1
        assert found(ask(client, request=request, organization=cast.elsewhere.id)) == []
        assert len(found(ask(client, request=request, since=day, until=day))) == 1
        assert found(ask(client, request=request, until=day - timedelta(days=1))) == []
        assert found(ask(client, request=request, since=day + timedelta(days=1))) == []

    def test_by_words_kept_or_not_yet(self, cast, dave):
        word, target = builders.unique("Zebra").replace("-", ""), builders.new_id("key")
        record(cast.acme, cast.bob, "key.changed", target, data={"name": f"{word} ingest"})
        record(cast.elsewhere, cast.mallory, "key.revoked", target, note=f"The {word} one was stolen")
        client = searching_as(dave)
        both = {(cast.acme.id, "key.changed", target), (cast.elsewhere.id, "key.revoked", target)}
        assert set(found(ask(client, words=word.lower()))) == both
        assert set(found(ask(client, words=word[:-1]))) == both
        assert found(ask(client, words=f"{word} ingest")) == [(cast.acme.id, "key.changed", target)]
        assert found(ask(client, words=word, act="key.revoked")) == [
            (cast.elsewhere.id, "key.revoked", target)
        ]
        assert found(ask(client, target=f"{word} ingest")) == [(cast.acme.id, "key.changed", target)]
        for number in range(130):
            record(cast.acme, cast.bob, "key.changed", f"key_{number}")
        while searching.keep_words(cast.acme.id):
            pass
        assert set(found(ask(client, words=word))) == both

    def test_pages_have_each_entry_once_in_order(self, cast, dave):
        target = builders.new_id("key")
        for number in range(70):
            record(
                cast.acme if number % 3 else cast.elsewhere,
                cast.bob,
                "key.changed",
                target,
                data={"n": number},
            )
        client = searching_as(dave)
        seen, query = [], {"target": target}
        pages = 0
        while True:
            response = ask(client, **query)
            seen += [(hit.customer.id, hit.line.place, hit.line.at) for hit in response.context["found"].hits]
            pages += 1
            if not response.context["older"]:
                break
            query["before"] = response.context["found"].older
        # The searches themselves are about something else.
        assert (len(seen), len(set(seen)), pages) == (70, 70, 2)
        assert [at for *_, at in seen] == sorted((at for *_, at in seen), reverse=True)

    def test_the_database_alone_gives_up_after_so_much(self, cast, dave):
        """Nothing but words that every organization has: still one page, and the next goes on."""
        client = searching_as(dave)
        response = ask(client, act="organization.created")
        assert 0 < len(found(response)) <= 50


class TestRefusing:
    def test_nothing_without_a_reason(self, cast, dave):
        client = builders.signed_in(dave)
        with builders.gains(cast.acme.id), builders.gains(tenancy.operator_id()):
            response = ask(client, act="key.revoked", organization=cast.acme.id)
        assert "found" not in response.context
        assert "Acme" not in response.content.decode()

    def test_time_alone_is_no_search(self, cast, dave):
        client = searching_as(dave)
        with builders.gains(cast.acme.id), builders.gains(tenancy.operator_id()):
            response = ask(client, since="2020-01-01")
        assert "found" not in response.context

    def test_a_secret_is_not_searched_for(self, dave):
        client = searching_as(dave)
        response = client.get("/support", {"words": "whsec_" + "A" * 43 + "="})
        assert (response.status_code, response["Location"]) == (302, "/support")

    def test_a_search_that_finds_nothing_is_recorded_too(self, cast, dave):
        client = searching_as(dave)
        with builders.gains(tenancy.operator_id(), "support.viewed") as own:
            response = ask(client, target=builders.new_id("key"))
        assert own[0].data["entries"] == 0
        assert "Nothing found" in response.content.decode()

    def test_nobody_is_called_that(self, dave):
        response = ask(searching_as(dave), who="xyzzy nobody")
        assert "Nobody is called that" in response.content.decode()

    def test_whose_ledger_can_not_hear_of_it_is_not_shown(self, cast, dave, monkeypatch):
        target = builders.new_id("key")
        for where, user in ((cast.acme, cast.bob), (cast.elsewhere, cast.mallory)):
            record(where, user, "key.changed", target, data={"name": "told"})
        client = searching_as(dave)
        append = ledger._append

        def refuse(organization_id, drafts):
            if organization_id == cast.acme.id:
                raise LedgerUnavailable("busy")
            append(organization_id, drafts)

        monkeypatch.setattr(ledger, "_append", refuse)
        response = ask(client, target=target)
        assert found(response) == [(cast.elsewhere.id, "key.changed", target)]
        assert "1 organization are not shown" in response.content.decode()

    def test_nothing_at_all_where_the_operators_can_not(self, cast, dave, monkeypatch):
        client = searching_as(dave)
        client.raise_request_exception = False

        def refuse(*_):
            raise LedgerUnavailable("busy")

        monkeypatch.setattr(ledger, "_append", refuse)
        response = client.get("/support", {"act": "key.*", "organization": cast.acme.id})
        assert response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        assert "Acme" not in response.content.decode()

    def test_ended_searches_find_nothing(self, cast, dave):
        client = searching_as(dave)
        client.post("/support/end")
        assert "found" not in ask(client, organization=cast.acme.id).context

    @pytest.mark.parametrize(
        "before", ["x", "!!!!", "MTIz", "0" * 3000, "MjAyNi0xMS0yMVQxMjowMDowMHwqfDF8MQ", "\x00", *FAR]
    )
    def test_a_cursor_of_ones_own(self, cast, dave, before):
        assert ask(searching_as(dave), organization=cast.acme.id, before=before)

    @pytest.mark.parametrize(
        "text", ["'; DROP TABLE x; --", "%", "_", "\\", "a & b | !c:*", '"', "\x00", "ü" * 64]
    )
    def test_hostile_words(self, dave, text):
        client = searching_as(dave)
        for field in ("who", "target", "request", "organization", "words"):
            assert ask(client, **{field: text})

    @pytest.mark.parametrize("day", ["9999-12-31", "0001-01-01"])
    def test_the_ends_of_time(self, dave, day):
        ask(searching_as(dave), words="revoked", since=day, until=day)

    def test_searches_that_are_closed_meanwhile_show_nothing(self, cast, dave, monkeypatch):
        record(cast.acme, cast.bob, "key.revoked", builders.new_id("key"), data={"name": "ingest"})
        client = searching_as(dave)
        find = support_searching._find

        def meanwhile(*asked):
            services.close_all_support(dave.id, why=SupportEnd.ROLE_LOST)
            return find(*asked)

        monkeypatch.setattr(support_searching, "_find", meanwhile)
        with builders.gains(cast.acme.id), builders.gains(tenancy.operator_id(), "support.closed"):
            response = client.get("/support", {"act": "key.revoked"})
        assert (response.status_code, response["Location"]) == (303, "/support")
        assert "Your searches are over." in client.get("/support").content.decode()

    def test_a_page_of_it_shows_no_address(self, cast, dave):
        target = builders.new_id("key")
        actor = builders.Actor(id=cast.bob.id, name="Bob", ip="203.0.113.77")
        with tenancy.within(cast.acme.id), ledger.recording(cast.acme.id, actor) as entry:
            entry("key.changed", target=target)
        assert "203.0.113.77" not in ask(searching_as(dave), target=target).content.decode()

    def test_while_visiting_one_may_search_on(self, cast, dave):
        client = searching_as(dave)
        client.post(f"/support/open/{cast.acme.id}", {"reason": WHY, "minutes": "15"})
        response = ask(client, target=User.objects.get(pk=cast.bob.pk).pk)
        assert "Support visit to" in response.content.decode()
