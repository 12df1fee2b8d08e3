"""`/v1/audit`: what a program reads of the ledger, and that it can check every part of it."""

import base64
import gc
import io
import json
import zipfile
from hashlib import sha256

import pytest

from audit import note, tenancy, tree
from audit.exports import places
from audit.models import Entry
from audit.proofs import proof
from audit.signatures import reopening
from keys.api import streaming
from tests import builders, bundles, ledgers, nodes
from tests.api import calls
from tests.api.calls import is_problem, where, without_id

PATHS = (
    "/audit/entries",
    "/audit/entries/0",
    "/audit/entries/0/proof",
    "/audit/checkpoint",
    "/audit/consistency?from=1&to=1",
    "/audit/keys",
    "/audit/bundle",
)


@pytest.fixture(scope="module")
def reader(cast, django_db_blocker):
    """The secret of a key that reads the log."""
    with django_db_blocker.unblock():
        return calls.key(cast.acme, cast.alice, ["audit:read"]).secret


@pytest.fixture
def api(reader):
    return calls.Api(reader)


@pytest.fixture
def signed(cast):
    """The newest checkpoint's note, as published."""
    return bundles.sign(cast.acme.id)


@pytest.fixture(scope="module")
def twice(django_db_setup, django_db_blocker):
    """A program, and the notes of an organization's two logs."""
    with django_db_blocker.unblock():
        cast = builders.cast()
        api = calls.program(cast.acme, cast.alice, ["audit:read"])
        older = bundles.sign(cast.acme.id)
        reopening.reopen_ledger(cast.acme.id, older, actor=builders.OPERATOR, reason="a drill")
        ledgers.append(cast.acme.id, 3)
        return api, older, bundles.sign(cast.acme.id, epoch=2)


def found(answer):
    assert answer.status_code == 200, answer.content
    return json.loads(answer.content)


def keys_of(api):
    answer = api.get("/audit/keys")
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    return [note.VerifierKey.parse(line) for line in answer.content.decode().splitlines()]


def b64(octets):
    return base64.b64encode(octets).decode()


class TestWho:
    @pytest.mark.parametrize("path", PATHS)
    def test_needs_the_scope(self, cast, path):
        is_problem(calls.program(cast.acme, cast.alice, ["keys:read"]).get(path), 403, "insufficient_scope")

    @pytest.mark.parametrize("path", PATHS)
    def test_needs_a_key_of_the_whole_organization(self, cast, path):
        below = builders.project(builders.root(cast.acme))
        api = calls.program(cast.acme, cast.alice, ["audit:read"], project=below)
        is_problem(api.get(path), 403, "forbidden")

    @pytest.mark.parametrize("path", PATHS)
    def test_no_parameter_is_overlooked(self, api, path):
        answer = api.get(path + ("&" if "?" in path else "?") + "organization=org_x")
        is_problem(answer, 422, "invalid_value")

    def test_each_sees_its_own_log(self, cast, api, signed):
        stranger = calls.program(cast.elsewhere, cast.mallory, ["audit:read"])
        theirs = bundles.sign(cast.elsewhere.id)
        assert stranger.get("/audit/checkpoint").content.decode() == theirs
        assert api.get("/audit/checkpoint").content.decode() == signed
        assert cast.acme.id not in stranger.get("/audit/entries?limit=200").content.decode()


class TestEntries:
    def test_all_of_them_page_by_page(self, cast, api):
        with tenancy.within(cast.acme.id):
            there = list(
                Entry.objects.of(cast.acme.id).newest_first().values_list("epoch", "index", "act", "actor")
            )
        shown, cursor = [], ""
        while cursor is not None:
            page = found(api.get(f"/audit/entries?limit=3{cursor and f'&cursor={cursor}'}"))
            shown += [(each["epoch"], each["index"], each["act"], each["actor"]) for each in page["data"]]
            assert len(page["data"]) <= 3
            cursor = page["next_cursor"]
        assert shown == there

    def test_filters(self, cast, api):
        key = calls.key(cast.acme, cast.bob)
        about = found(api.get(f"/audit/entries?target={key.key.id}"))["data"]
        assert [each["act"] for each in about] == ["key.created"]
        (entry,) = about
        assert found(api.get(f"/audit/entries?actor={cast.bob.id}&limit=1"))["data"] == about
        by_act = found(api.get("/audit/entries?action=key.created&limit=1"))["data"]
        assert by_act == about == found(api.get("/audit/entries?action=key.*&limit=1"))["data"]
        words = found(api.get(f'/audit/entries?q="{key.key.name}"'))["data"]
        assert words == about
        assert found(api.get(f"/audit/entries?q=neverheardof{entry['index']}"))["data"] == []
        assert found(api.get("/audit/entries?to=2020-01-01T00:00:00Z"))["data"] == []
        since = found(api.get(f"/audit/entries?from={entry['at']}"))["data"]
        assert about[0] in since
        assert all(each["at"] >= entry["at"] for each in since)

    def test_by_request_id(self, cast):
        writer = calls.program(cast.acme, cast.alice)
        made = writer.post("/api-keys", calls.draft(), X_Request_Id="req_of_this_test")
        assert made.status_code == 201, made.content
        api = calls.program(cast.acme, cast.alice, ["audit:read"])
        (entry,) = found(api.get("/audit/entries?request_id=req_of_this_test"))["data"]
        assert (entry["act"], entry["request_id"]) == ("key.created", "req_of_this_test")
        assert entry["personal"]["ip"] == calls.ADDRESS

    def test_personal_data_is_shown_until_it_is_erased(self):
        cast = builders.cast()
        api = calls.program(cast.acme, cast.alice, ["audit:read"])
        key = calls.key(cast.acme, cast.bob)
        (entry,) = found(api.get(f"/audit/entries?target={key.key.id}"))["data"]
        assert entry["personal"]["email"] == cast.bob.email
        with ledgers.without_triggers() as connection:
            connection.execute(
                "DELETE FROM audit_sealed WHERE organization_id = %s AND index = %s AND field = 'email'",
                [cast.acme.id, entry["index"]],
            )
        (entry,) = found(api.get(f"/audit/entries?target={key.key.id}"))["data"]
        assert entry["personal"]["email"] is None

    @pytest.mark.parametrize(
        ("query", "place"),
        [
            ("action=key.imagined", "action"),
            ("action=imagined.*", "action"),
            ("action=*", "action"),
            ("cursor=x", "cursor"),
            ("cursor=1-2-3", "cursor"),
            ("limit=201", "limit"),
            ("from=yesterday", "from"),
            ("actor=%00", "actor"),
            ("q=%00", "q"),
            ("q=a&q=b", "q"),
        ],
    )
    def test_refuses(self, api, query, place):
        assert where(is_problem(api.get(f"/audit/entries?{query}"), 422, "invalid_value")) == [place]

    def test_a_secret_is_no_word_to_look_for(self, api, reader):
        is_problem(api.get(f"/audit/entries?q={reader}"), 400, "invalid_request")


class TestEntry:
    def test_its_bytes_are_what_is_hashed(self, cast, api):
        entry = found(api.get("/audit/entries/2"))
        leaf = entry["leaf"].encode()
        assert entry["leaf_hash"] == b64(sha256(b"\x00" + leaf).digest())
        with tenancy.within(cast.acme.id):
            assert leaf == bytes(Entry.objects.of(cast.acme.id).get(index=2).leaf)
        read = json.loads(leaf)
        assert (entry["act"], entry["log"], entry["prev"]) == (read["act"], read["log"], read["prev"])
        assert entry["sealed"] == read.get("sealed", {})
        before = found(api.get("/audit/entries/1?epoch=1"))
        assert before["leaf_hash"] == entry["prev"]

    @pytest.mark.parametrize("path", ["999999", "1?epoch=2", "9007199254740991"])
    def test_what_there_is_not(self, api, path):
        is_problem(api.get(f"/audit/entries/{path}"), 404, "not_found")

    @pytest.mark.parametrize("path", ["x", "-1", "9007199254740992", "1?epoch=0", "1?epoch=99999"])
    def test_what_can_not_be(self, api, path):
        is_problem(api.get(f"/audit/entries/{path}"), 422, "invalid_value")


class TestProof:
    def test_a_reader_can_check_it_alone(self, api, signed):
        entry = found(api.get("/audit/entries/3"))
        answer = api.get("/audit/entries/3/proof")
        assert answer["Content-Type"] == "text/plain; charset=utf-8"
        assert answer["Content-Disposition"].endswith('-3.tlog-proof"')
        text = answer.content.decode()
        assert proof.read(text).index == 3
        assert proof.read(text).note == signed
        proof.open_proof(text, entry["leaf"].encode(), entry["log"], keys_of(api))

    def test_a_new_entry_waits(self, cast, api, signed):
        size = note.parse_checkpoint(signed.partition("\n\n")[0] + "\n").size
        calls.key(cast.acme, cast.alice)
        answer = api.get(f"/audit/entries/{size}/proof")
        is_problem(answer, 409, "not_signed")
        assert answer["Retry-After"] == "10"
        bundles.sign(cast.acme.id)
        assert api.get(f"/audit/entries/{size}/proof").status_code == 200

    def test_what_there_is_not(self, api, signed):
        is_problem(api.get("/audit/entries/999999/proof"), 404, "not_found")

    def test_a_tampered_ledger_proves_nothing(self):
        cast = builders.cast()
        api = calls.program(cast.acme, cast.alice, ["audit:read"])
        bundles.sign(cast.acme.id)
        with ledgers.without_triggers() as connection:
            connection.execute(
                "UPDATE audit_entry SET leaf = leaf || ' ' WHERE organization_id = %s AND index = 2",
                [cast.acme.id],
            )
        is_problem(api.get("/audit/entries/2/proof"), 409, "ledger_unproven")
        is_problem(api.get("/audit/entries/1/proof"), 409, "ledger_unproven")
        damaged = found(api.get("/audit/entries/2"))
        assert (damaged["readable"], damaged["data"]) == (False, {})


class TestCheckpoint:
    def test_the_newest_byte_for_byte(self, api, signed):
        answer = api.get("/audit/checkpoint")
        assert answer["Content-Type"] == "text/plain; charset=utf-8"
        assert answer.content.decode() == signed
        opened = note.open_checkpoint(signed, keys_of(api)[0].name, keys_of(api))
        assert api.get(f"/audit/checkpoint?size={opened.size}&epoch=1").content.decode() == signed

    def test_an_older_one(self, cast, api, signed):
        older = bundles.sign(cast.acme.id, 3)
        assert api.get("/audit/checkpoint?size=3").content.decode() == older
        assert api.get("/audit/checkpoint").content.decode() == signed

    @pytest.mark.parametrize("query", ["size=1000000", "size=3&epoch=2"])
    def test_what_was_never_signed(self, api, signed, query):
        is_problem(api.get(f"/audit/checkpoint?{query}"), 404, "not_found")

    def test_where_nothing_is_signed_yet(self):
        cast = builders.cast()
        api = calls.program(cast.acme, cast.alice, ["audit:read"])
        is_problem(api.get("/audit/checkpoint"), 409, "not_signed")
        is_problem(api.get("/audit/bundle"), 409, "bundle_unavailable")
        is_problem(api.get("/audit/entries/0/proof"), 409, "not_signed")
        assert not streaming.PLACES.running


class TestConsistency:
    def test_a_reader_can_check_it_alone(self, cast, api):
        older = bundles.sign(cast.acme.id, 5)
        newer = bundles.sign(cast.acme.id)
        keys = keys_of(api)
        old, new = (note.open_checkpoint(each, keys[0].name, keys) for each in (older, newer))
        got = found(api.get(f"/audit/consistency?from=5&to={new.size}"))
        assert (got["epoch"], got["from"], got["to"]) == (1, 5, new.size)
        hashes = [base64.b64decode(each) for each in got["hashes"]]
        tree.verify_consistency(old.size, new.size, old.root, new.root, hashes)

    def test_of_what_was_never_signed(self, api, signed):
        is_problem(api.get("/audit/consistency?from=1&to=999999"), 409, "not_signed")

    @pytest.mark.parametrize(
        ("query", "places"), [("from=0&to=1", ["from"]), ("from=3&to=2", ["from"]), ("from=1", ["to"])]
    )
    def test_refuses(self, api, query, places):
        assert where(is_problem(api.get(f"/audit/consistency?{query}"), 422, "invalid_value")) == places


class TestKeys:
    def test_the_key_that_opened_it(self, cast, api):
        (key,) = keys_of(api)
        assert key.name.endswith(f"/ledger/{cast.acme.id}")
        assert found(api.get("/audit/entries/0"))["data"]["vkey"] == key.format()

    def test_of_an_epoch_that_there_is_not(self, api):
        is_problem(api.get("/audit/keys?epoch=2"), 404, "not_found")


class TestEpochs:
    """After a reopening there are two logs, each with its own name, proofs and bundle."""

    def test_the_newest_unless_told(self, twice):
        api, older, newer = twice
        assert api.get("/audit/checkpoint").content.decode() == newer
        assert api.get("/audit/checkpoint?epoch=1").content.decode() == older
        assert found(api.get("/audit/entries/0"))["act"] == "ledger.reopened"
        assert found(api.get("/audit/entries/0?epoch=1"))["act"] == "ledger.opened"

    def test_each_proves_its_own(self, twice):
        api, *notes = twice
        for epoch, signed in enumerate(notes, start=1):
            keys = [
                note.VerifierKey.parse(line)
                for line in api.get(f"/audit/keys?epoch={epoch}").content.decode().splitlines()
            ]
            entry = found(api.get(f"/audit/entries/2?epoch={epoch}"))
            text = api.get(f"/audit/entries/2/proof?epoch={epoch}").content.decode()
            assert proof.read(text).note == signed
            checkpoint = proof.open_proof(text, entry["leaf"].encode(), entry["log"], keys)
            read = bundles.read(api.get(f"/audit/bundle?epoch={epoch}"))
            assert read.size == checkpoint.size

    def test_one_list_of_both(self, twice):
        api, *_ = twice
        places, cursor = [], ""
        while cursor is not None:
            page = found(api.get(f"/audit/entries?limit=2{cursor and f'&cursor={cursor}'}"))
            places += [(each["epoch"], each["index"]) for each in page["data"]]
            cursor = page["next_cursor"]
        assert places == sorted(set(places), reverse=True)
        assert {(2, 0), (1, 0)} <= set(places)

    def test_consistency_is_of_one_log(self, twice):
        api, _, newer = twice
        size = int(newer.split("\n")[1])
        is_problem(api.get(f"/audit/consistency?from=1&to={size}&epoch=1"), 409, "not_signed")
        same = found(api.get(f"/audit/consistency?from={size}&to={size}"))
        assert (same["epoch"], same["hashes"]) == (2, [])


class TestBundle:
    def test_it_verifies_and_is_on_record(self, cast, api, signed):
        with builders.gains(cast.acme.id, "export.made") as gained:
            answer = api.get("/audit/bundle")
            assert answer.status_code == 200
            pieces = list(answer)
        assert answer["Content-Type"] == "application/zip"
        assert answer["Cache-Control"] == "no-store"
        read = bundles.read(pieces)
        assert read.size == note.parse_checkpoint(signed.partition("\n\n")[0] + "\n").size
        assert gained[0].data | {"request_id": ""} == {
            "what": "log",
            "format": "bundle",
            "epoch": 1,
            "entries": read.size,
            "target": cast.acme.id,
            "request_id": "",
        }
        answer.close()
        assert not streaming.PLACES.running

    def test_with_an_older_checkpoint(self, cast, api, signed):
        older = bundles.sign(cast.acme.id, 4)
        with zipfile.ZipFile(io.BytesIO(b"".join(api.get("/audit/bundle?old_size=4")))) as file:
            assert file.read("old-checkpoint").decode() == older
        is_problem(api.get("/audit/bundle?old_size=999999"), 404, "not_found")

    def test_few_at_once(self, cast, api, signed):
        running = [api.get("/audit/bundle") for _ in range(places.MOST_OF_ONE)]
        answer = api.get("/audit/bundle")
        is_problem(answer, 503, "too_many_downloads")
        assert answer["Retry-After"]
        running.pop().close()
        again = api.get("/audit/bundle")
        assert again.status_code == 200
        for each in (again, *running):
            each.close()
        gc.collect()
        assert not streaming.PLACES.running

    def test_who_goes_away_leaves_no_connection(self, cast, api, signed):
        def there():
            return calls.rows(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND query LIKE '%%audit_entry%%' AND state = 'idle in transaction'"
            )[0][0]

        before = there()
        answer = api.get("/audit/bundle")
        next(iter(answer))
        answer.close()
        assert there() == before


def test_a_strangers_and_an_unknown_one_are_the_same_bytes(cast, signed):
    stranger = calls.program(cast.elsewhere, cast.mallory, ["audit:read"])
    nodes.keep(cast.acme.id)
    theirs = stranger.get("/audit/entries/99999/proof")
    unknown = stranger.get("/audit/entries/99998/proof")
    assert without_id(theirs) == without_id(unknown)
