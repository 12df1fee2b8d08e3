"""The pages of exports: who may ask, what is handed out, and that nobody else gets it."""

import re
from contextlib import closing
from datetime import timedelta
from hashlib import sha256
from urllib.parse import quote

import pytest
from django.utils import timezone

from audit import services, tenancy
from audit.exports import places, sending
from audit.models import Export
from orgs import services as org_services
from orgs.models import Membership
from orgs.roles import Role
from tests import builders, bundles, exports, ledgers

PAGE = "/log/export"


@pytest.fixture
def cast():
    return builders.cast()


@pytest.fixture
def alice(cast):
    return builders.signed_in(cast.alice)


@pytest.fixture
def made(cast):
    return exports.make(exports.request(cast.acme.id, actor=cast.member(cast.alice)))


def text(response):
    return response.content.decode()


def body(response):
    return b"".join(response.streaming_content)


def kept(cast):
    with tenancy.within(cast.acme.id):
        return list(Export.objects.order_by("created_at"))


def stepped_down(client):
    """Return the browser of somebody who confirmed their password long ago."""
    session = client.session
    for record in session["account_authentication_methods"]:
        record["at"] -= 3600
    session.save()
    return client


class TestPage:
    def test_empty_it_says_what_it_is_for(self, alice):
        page = text(alice.get(PAGE))
        assert "No exports" in page
        assert "data-poll" not in page
        assert page.count('name="format"') == 3

    @pytest.mark.parametrize("who", ["alice", "anna", "carol"])
    def test_for_readers_of_the_whole_log(self, cast, who):
        assert builders.signed_in(getattr(cast, who)).get(PAGE).status_code == 200

    @pytest.mark.parametrize("who", ["bob", "vera"])
    def test_for_nobody_else(self, cast, made, who):
        client = builders.signed_in(getattr(cast, who))
        for path in (PAGE, f"{PAGE}/{made.id}", f"{PAGE}/confirm"):
            assert client.get(path).status_code == 403
        for path in (PAGE, f"{PAGE}/{made.id}/remove"):
            assert client.post(path, {"format": "csv"}).status_code == 403
        assert len(kept(cast)) == 1

    def test_shows_progress_and_asks_again_until_all_are_made(self, cast, alice):
        asked = exports.request(cast.acme.id, actor=cast.member(cast.alice))
        with ledgers.superuser() as database:
            database.execute(
                "UPDATE audit_export SET state = 'running', claim = 'c', done = 30, total = 120 WHERE id = %s",
                [asked.id],
            )
        part = alice.get(PAGE, headers={"HX-Request": "true", "HX-Target": "exports"})
        assert "<html" not in text(part)
        assert 'hx-trigger="every 2s"' in text(part)
        assert "30 of 120" in text(part)
        assert '<rect width="25.0%"' in text(part)
        assert "HX-Request" in part["Vary"]

    def test_shows_a_made_one_with_its_digest(self, alice, made):
        page = text(alice.get(PAGE))
        assert f'data-copy="{made.sha256}"' in page
        assert f'href="{PAGE}/{made.id}"' in page
        assert "data-poll" not in page

    def test_only_ones_own(self, cast, made):
        page = text(builders.signed_in(cast.mallory).get(PAGE))
        assert made.id not in page


class TestAsking:
    def test_takes_the_filters_of_the_log(self, cast, alice):
        with builders.gains(cast.acme.id, "export.requested") as gained:
            answer = alice.post(f"{PAGE}?act=key.*&who={cast.bob.id}&format=csv", {"format": "csv"})
        assert (answer.status_code, answer["Location"]) == (303, f"{PAGE}?who={cast.bob.id}&act=key.%2A")
        [asked] = kept(cast)
        assert (asked.format, asked.filters) == ("csv", {"act": "key.*", "who": cast.bob.id})
        assert gained[0].actor == cast.alice.id
        assert gained[0].data["filters"] == {"act": "key.*", "who": cast.bob.id}
        page = text(alice.get(PAGE))
        assert "action: <bdi>key.*</bdi>" in page

    def test_a_time_that_moves_is_held(self, cast, alice):
        alice.post(f"{PAGE}?last=24h", {"format": "csv"})
        [asked] = kept(cast)
        yesterday = timezone.now() - timedelta(days=1)
        assert asked.filters == {"since": f"{yesterday:%Y-%m-%dT%H:%M}"}
        assert "when</b> <bdi>Last 24 hours" in text(alice.get(f"{PAGE}?last=24h"))

    def test_a_bundle_is_whole(self, cast, alice):
        alice.post(f"{PAGE}?act=key.*", {"format": "bundle"})
        assert kept(cast)[0].filters == {}

    def test_with_a_checkpoint_that_is_none(self, cast, alice):
        bundles.sign(cast.acme.id)
        answer = alice.post(PAGE, {"format": "bundle", "old_note": "my note"})
        assert answer.status_code == 422
        assert "no checkpoint that the notary signed" in text(answer)
        assert "my note" in text(answer)
        assert kept(cast) == []

    def test_with_one_that_was_kept(self, cast, alice):
        note = bundles.sign(cast.acme.id)
        alice.post(PAGE, {"format": "bundle", "old_note": note.replace("\n", "\r\n")})
        assert kept(cast)[0].old_note == note

    @pytest.mark.parametrize("format_", ["", "exe", "CSV", "csv' --"])
    def test_of_no_other_format(self, cast, alice, format_):
        assert alice.post(PAGE, {"format": format_}).status_code == 422
        assert kept(cast) == []

    def test_a_filter_that_is_none_asks_for_nothing(self, cast, alice):
        alice.post(f"{PAGE}?act=imagined", {"format": "csv"})
        assert kept(cast) == []

    def test_the_fourth_at_once_is_told_to_wait(self, cast, alice):
        for _ in range(3):
            alice.post(PAGE, {"format": "csv"})
        answer = alice.post(PAGE, {"format": "csv"})
        assert answer.status_code == 422
        assert "wait for one of them" in text(answer)

    def test_after_the_password_with_the_filters_kept(self, cast, alice):
        answer = stepped_down(alice).post(f"{PAGE}?act=key.*&format=csv", {"format": "csv"})
        back = quote(f"{PAGE}?act=key.*&format=csv", safe="")
        assert answer["Location"] == f"/account/confirm?next={back}"
        assert kept(cast) == []

    def test_the_log_leads_there_with_its_filters(self, alice):
        assert f'href="{PAGE}?act=key.created"' in text(alice.get("/log?act=key.created"))


class TestDownloading:
    def test_hands_out_what_was_made(self, cast, alice, made):
        answer = alice.get(f"{PAGE}/{made.id}")
        data = body(answer)
        assert sha256(data).hexdigest() == made.sha256
        assert answer["Content-Length"] == str(len(data))
        day = f"{timezone.now():%Y-%m-%d}"
        assert answer["Content-Disposition"] == f'attachment; filename="acme-log-{day}.jsonl"'
        assert answer["Cache-Control"] == "no-store"
        assert answer["X-Content-Type-Options"] == "nosniff"

    def test_a_bundle_is_a_zip_that_verifies(self, cast, alice):
        bundles.sign(cast.acme.id)
        made = exports.make(exports.request(cast.acme.id, "bundle"))
        answer = alice.get(f"{PAGE}/{made.id}")
        assert answer["Content-Type"] == "application/zip"
        assert re.fullmatch(
            r'attachment; filename="acme-ledger-\d{4}-\d\d-\d\d\.zip"', answer["Content-Disposition"]
        )
        bundles.read([body(answer)])

    def test_records_nothing_more(self, cast, alice, made):
        with builders.gains(cast.acme.id):
            body(alice.get(f"{PAGE}/{made.id}"))

    def test_ranges_and_heads(self, alice, made):
        ranged = alice.get(f"{PAGE}/{made.id}", headers={"Range": "bytes=0-3"})
        assert (ranged.status_code, len(body(ranged))) == (200, made.size)
        head = alice.head(f"{PAGE}/{made.id}")
        assert (head.status_code, head["Content-Length"], head.content) == (200, str(made.size), b"")

    def test_a_strangers_is_not_there(self, cast, made):
        mallory = builders.signed_in(cast.mallory)
        assert mallory.get(f"{PAGE}/{made.id}").status_code == 404
        assert mallory.post(f"{PAGE}/{made.id}/remove").status_code == 404
        assert exports.fresh(made).is_ready

    def test_after_losing_the_role(self, cast, made):
        carol = builders.signed_in(cast.carol)
        assert body(carol.get(f"{PAGE}/{made.id}"))
        with tenancy.within(cast.acme.id):
            membership = Membership.objects.get(user=cast.carol)
            org_services.change_role(membership, Role.VIEWER, actor=cast.member(cast.alice))
        assert carol.get(f"{PAGE}/{made.id}").status_code == 403

    def test_when_its_day_is_over(self, alice, made):
        with ledgers.superuser() as database:
            database.execute("UPDATE audit_export SET expires_at = now() WHERE id = %s", [made.id])
        assert alice.get(f"{PAGE}/{made.id}").status_code == 404
        assert made.id not in text(alice.get(PAGE))

    def test_before_it_is_made(self, cast, alice):
        asked = exports.request(cast.acme.id)
        assert alice.get(f"{PAGE}/{asked.id}").status_code == 404

    def test_long_after_the_password(self, alice, made):
        answer = stepped_down(alice).get(f"{PAGE}/{made.id}")
        assert answer["Location"].startswith("/account/confirm?next=")
        assert "Confirm your password to download" in text(alice.get(PAGE))

    def test_confirming_leads_back(self, alice):
        answer = alice.get(f"{PAGE}/confirm?act=key.*")
        assert (answer.status_code, answer["Location"]) == (303, f"{PAGE}?act=key.%2A")

    def test_it_breaks_off_where_it_is_taken_away(self, cast, alice, made):
        answer = alice.get(f"{PAGE}/{made.id}")
        with tenancy.within(cast.acme.id):
            services.remove_export(made, actor=cast.member(cast.alice))
        with pytest.raises(sending.ExportStateForbids):
            body(answer)

    def test_places_are_given_back(self, alice, made):
        for _ in range(places.MOST + 2):
            alice.get(f"{PAGE}/{made.id}").close()
        running = [alice.get(f"{PAGE}/{made.id}") for _ in range(places.MOST_OF_ONE)]
        refused = alice.get(f"{PAGE}/{made.id}")
        assert (refused.status_code, refused["Location"]) == (303, PAGE)
        for each in running:
            body(each)
        assert body(alice.get(f"{PAGE}/{made.id}"))
        assert made.organization_id not in sending.PLACES.running

    def test_one_organization_leaves_places_to_others(self, alice, made):
        """Whose readers take their time keep nobody else from downloading."""
        running = [alice.get(f"{PAGE}/{made.id}") for _ in range(places.MOST_OF_ONE)]
        assert alice.get(f"{PAGE}/{made.id}").status_code == 303
        with closing(sending.send(Export(id="exp_x", organization_id="org_other"))):
            pass
        for each in running:
            each.close()


class TestRemoving:
    def test_is_recorded(self, cast, alice, made):
        with builders.gains(cast.acme.id, "export.removed") as gained:
            assert alice.post(f"{PAGE}/{made.id}/remove").status_code == 303
        assert gained[0].actor == cast.alice.id
        assert kept(cast) == []

    def test_by_post_alone(self, alice, made):
        assert alice.get(f"{PAGE}/{made.id}/remove").status_code == 405


def test_an_address_with_a_secret_is_cleaned(alice):
    answer = alice.get(f"{PAGE}?target=ks_cp_live_{'A' * 40}")
    assert answer.status_code in {200, 303}
    assert "A" * 40 not in text(answer)
