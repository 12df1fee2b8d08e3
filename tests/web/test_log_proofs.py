"""What the log says of signatures: the seal, an entry's proof and its files, alarms, and revoking from an entry."""

import json
import os
import re
import shlex
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from http import HTTPStatus

import pytest
from django.urls import reverse
from psycopg.types.json import Jsonb

from audit import ledger, tenancy
from audit.actors import Actor
from audit.models import Checkpoint, Entry
from audit.note import VerifierKey
from audit.proofs import proof
from audit.signatures import verifier_keys
from tests import builders, cluster, key_builders, ledgers, notaries

KEY = "key_" + "a" * 20


def record(where, actor, act="key.created", target=KEY, data=None, times=1, **sealed):
    with tenancy.within(where.id), ledger.recording(where.id, actor) as entry:
        for number in range(times):
            entry(act, target=target, data={"number": number} | (data or {}), sealed=sealed)


def size(where):
    with tenancy.within(where.id):
        return Entry.objects.of(where.id).count()


def newest(where):
    with tenancy.within(where.id):
        return Checkpoint.objects.of(where.id).newest()


def words(response):
    """What a page says, without its marks."""
    assert response.status_code == HTTPStatus.OK
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode().split("<main", 1)[1]))


@contextmanager
def alarmed(*alarms):
    """Let the notary have found these, for as long as it takes."""
    with ledgers.superuser() as superuser:
        before = superuser.execute("SELECT alarms FROM audit_notary").fetchone()
        superuser.execute(
            "INSERT INTO audit_notary (instance, started_at, beat_at, alarms) VALUES ('x', now(), now(), %s)"
            " ON CONFLICT (id) DO UPDATE SET alarms = excluded.alarms",
            [Jsonb(list(alarms))],
        )
        try:
            yield
        finally:
            superuser.execute("UPDATE audit_notary SET alarms = %s", [Jsonb(before[0] if before else [])])


@pytest.fixture
def cast():
    return builders.cast()


@pytest.fixture
def notary(tmp_path):
    return notaries.new(tmp_path / "notary")


class TestSeal:
    def test_nothing_signed_yet(self, cast):
        client = builders.signed_in(cast.carol)
        assert "Nothing is signed yet" in words(client.get("/log"))

    def test_how_far_when_and_by_which_key(self, cast, notary):
        client = builders.signed_in(cast.carol)
        notary.round()
        found = newest(cast.acme)
        shown = words(client.get("/log"))
        assert f"Signed up to entry {found.size - 1}" in shown
        assert found.root.hex()[:6] in shown
        with tenancy.within(cast.acme.id):
            (vkey,) = verifier_keys.signing(cast.acme.id, 1)
        assert VerifierKey.parse(vkey).id.hex() in shown
        assert f'href="{reverse("audit:checking")}"' in client.get("/log").content.decode()

    def test_what_is_not_signed_yet_is_counted(self, cast, notary):
        client = builders.signed_in(cast.carol)
        notary.round()
        record(cast.acme, cast.member(cast.alice), times=3)
        shown = words(client.get("/log"))
        assert re.search(r"(3 newer entries (will be within|wait))|(No notary runs: 3 newer)", shown)

    def test_htmx_gets_it_beside_the_rows(self, cast, notary):
        client = builders.signed_in(cast.carol)
        notary.round()
        part = client.get("/log", headers={"HX-Request": "true", "HX-Target": "rows"}).content.decode()
        assert '<div id="seal" hx-swap-oob="true" ' in part
        assert 'hx-swap-oob="true"' not in client.get("/log").content.decode()

    def test_a_page_asks_for_it_alone_until_all_is_signed(self, cast, notary):
        client = builders.signed_in(cast.carol)
        notary.round()
        record(cast.acme, cast.member(cast.alice), times=3)
        assert "3 newer entries" in words(client.get("/log"))
        notary.round()
        part = client.get("/log", headers={"HX-Request": "true", "HX-Target": "seal"})
        page = part.content.decode()
        assert page.lstrip().startswith('<div id="seal" hx-get="/log" hx-trigger="every 10s"')
        assert " data-poll>" in page
        assert f"Signed up to entry {newest(cast.acme).size - 1}" in page
        assert "newer" not in page
        assert "rows" not in page
        assert "HX-Target" in part["Vary"]

    def test_who_reads_their_own_entries_alone_gets_none(self, cast, notary):
        notary.round()
        part = builders.signed_in(cast.bob).get("/log", headers={"HX-Request": "true", "HX-Target": "seal"})
        assert part.content.decode().strip() == ""
        vera = builders.signed_in(cast.vera)
        assert vera.get("/log", headers={"HX-Target": "seal"}).status_code == 404

    def test_an_alarm_names_the_entry_and_reaches_nobody_else(self, cast, notary):
        client = builders.signed_in(cast.carol)
        notary.round()
        alarm = {
            "organization": cast.acme.id,
            "epoch": 1,
            "index": 2,
            "kind": "altered",
            "what": "its hash does not fit <b>",
            "since": datetime.now(UTC).isoformat(),
        }
        with alarmed(alarm, alarm | {"index": None, "what": "it is shorter than what was signed"}):
            response = client.get("/log")
            # It would be said aloud again and again.
            assert "data-poll" not in response.content.decode()
            elsewhere = builders.signed_in(cast.mallory).get("/log")
            own = builders.signed_in(cast.bob).get("/log")
        assert "This ledger was changed" in words(response)
        assert 'href="/log/2"' in response.content.decode()
        assert "its hash does not fit &lt;b&gt;" in response.content.decode()
        assert "The whole ledger: it is shorter than what was signed" in words(response)
        for other in (elsewhere, own):
            assert "This ledger was changed" not in words(other)

    def test_a_key_that_does_not_sign_is_no_changed_ledger(self, cast, notary):
        notary.round()
        what = "the ledger names a key that this notary does not hold (0badc0de)"
        alarm = {"organization": cast.acme.id, "epoch": 1, "index": None, "kind": "key", "what": what}
        with alarmed(alarm):
            response = builders.signed_in(cast.carol).get("/log")
        assert f"A key is missing: {what}." in words(response)
        assert "Signed up to entry" in words(response)
        assert "This ledger was changed" not in words(response)
        assert "data-poll" in response.content.decode()


class TestProof:
    def test_an_entry_before_and_after_it_is_signed(self, cast, notary):
        client = builders.signed_in(cast.carol)
        index = size(cast.acme) - 1
        assert "Not signed yet" in words(client.get(f"/log/{index}"))
        assert client.get(f"/log/{index}/proof")["Location"] == f"/log/{index}"
        notary.round()
        shown = words(client.get(f"/log/{index}"))
        assert f"Covered by the checkpoint of {newest(cast.acme).size} entries" in shown
        assert newest(cast.acme).root.hex() in shown

    def test_the_files_prove_the_entry(self, cast, notary):
        record(cast.acme, cast.member(cast.alice), times=300)
        client = builders.signed_in(cast.carol)
        notary.round()
        with tenancy.within(cast.acme.id):
            keys = [VerifierKey.parse(vkey) for vkey in verifier_keys.published(cast.acme.id, 1)]
        for index in (0, 1, 17, 255, 256, newest(cast.acme).size - 1):
            file, leaf = client.get(f"/log/{index}/proof"), client.get(f"/log/{index}/leaf")
            assert file["Content-Disposition"] == f'attachment; filename="entry-{index}.tlog-proof"'
            assert leaf["Content-Disposition"] == f'attachment; filename="entry-{index}.json"'
            log = json.loads(leaf.content)["log"]
            checkpoint = proof.open_proof(file.content.decode(), leaf.content, log, keys)
            assert checkpoint.size == newest(cast.acme).size
            assert proof.read(file.content.decode()).index == index

    def test_the_path_on_the_page_ends_at_the_root(self, cast, notary):
        client = builders.signed_in(cast.carol)
        notary.round()
        response = client.get("/log/3")
        path = re.search(r'<ol class="path">(.*?)</ol>', response.content.decode(), re.DOTALL)[1]
        hashes = re.findall(r"<code[^>]*>([0-9a-f]{64})</code>", path)
        root = newest(cast.acme).root.hex()
        assert hashes[-1] == hashes[-2] == root
        assert hashes[0] == sha256(b"\x00" + client.get("/log/3/leaf").content).hexdigest()

    def test_the_command_on_the_page_gives_the_leaf_hash(self, cast, notary, tmp_path):
        client = builders.signed_in(cast.carol)
        notary.round()
        response = client.get("/log/2")
        command = re.search(r'id="hash-command"[^>]*>([^<]*)<', response.content.decode())[1]
        (tmp_path / "entry-2.json").write_bytes(client.get("/log/2/leaf").content)
        plain = command.replace("&#x27;", "'")
        told = subprocess.run(["sh", "-c", plain], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert (
            told.stdout.split()[0] == re.search(r'id="leaf-hash">([0-9a-f]+)<', response.content.decode())[1]
        )

    def test_the_sdk_takes_the_command_on_the_page(self, cast, notary, tmp_path):
        client = builders.signed_in(cast.carol)
        notary.round()
        command = re.search(r'id="sdk-command"[^>]*>([^<]*)<', client.get("/log/2").content.decode())[1]
        for name in ("proof", "leaf"):
            response = client.get(f"/log/2/{name}")
            file = re.search(r'filename="([^"]+)"', response["Content-Disposition"])[1]
            (tmp_path / file).write_bytes(response.content)
        assert run_sdk(command.replace("&#x27;", "'"), tmp_path) == 0
        (tmp_path / "entry-2.json").write_bytes(client.get("/log/1/leaf").content)
        assert run_sdk(command.replace("&#x27;", "'"), tmp_path) == 1

    def test_what_was_changed_is_not_proven(self, cast, notary):
        client = builders.signed_in(cast.carol)
        notary.round()
        with ledgers.without_triggers() as superuser:
            superuser.execute(
                b"UPDATE audit_entry SET leaf = convert_to(replace(convert_from(leaf, 'UTF8'), 'org_', 'orx_'), 'UTF8')"
                b" WHERE organization_id = %s AND index = 1",
                [cast.acme.id],
            )
        shown = words(client.get("/log/2"))
        assert "This entry can’t be proven" in shown
        assert client.get("/log/2/proof").status_code == HTTPStatus.FOUND

    def test_a_developer_proves_their_own_alone(self, cast, notary):
        record(cast.acme, cast.member(cast.bob))
        own = size(cast.acme) - 1
        client = builders.signed_in(cast.bob)
        notary.round()
        assert client.get(f"/log/{own}/proof").content.startswith(b"c2sp.org/tlog-proof@v1\n")
        for name in ("", "/proof", "/leaf"):
            assert client.get(f"/log/0{name}").status_code == HTTPStatus.NOT_FOUND

    def test_the_activity_of_a_key_offers_each_proof(self, cast, notary):
        made = key_builders.create(cast.acme, cast.alice).key
        client = builders.signed_in(cast.carol)
        shown = client.get(f"/keys/{made.id}/activity").content.decode()
        (place,) = re.findall(r'href="(/log/\d+/proof)"', shown)
        notary.round()
        assert client.get(place).content.startswith(b"c2sp.org/tlog-proof@v1\n")


class TestRevoking:
    @pytest.fixture
    def key(self, cast):
        return key_builders.create(cast.acme, cast.alice).key

    def entry_of(self, cast, key):
        with tenancy.within(cast.acme.id):
            return Entry.objects.of(cast.acme.id).get(target=key.id, act="key.created").index

    def test_from_the_list_and_from_the_entry_and_back_to_it(self, cast, key):
        index, client = self.entry_of(cast, key), builders.signed_in(cast.alice)
        page = f"/keys/{key.id}/revoke?entry={index}"
        assert f'href="{page}"' in client.get("/log").content.decode()
        assert f'href="{page}"' in client.get(f"/log/{index}").content.decode()
        shown = client.get(page).content.decode()
        assert f'action="{page}"' in shown
        assert f'href="/log/{index}">Cancel' in shown
        with builders.gains(cast.acme.id, "key.revoked"):
            response = client.post(page, {"reason": "leaked"})
        assert (response.status_code, response["Location"]) == (HTTPStatus.SEE_OTHER, f"/log/{index}")
        assert f"/keys/{key.id}/revoke" not in client.get(f"/log/{index}").content.decode()
        assert f"/keys/{key.id}/revoke" not in client.get("/log").content.decode()

    def test_the_key_that_acted_too(self, cast, key):
        record(cast.acme, Actor(id=key.id, name="bot"), "key.changed", target="key_" + "b" * 20)
        index = size(cast.acme) - 1
        shown = builders.signed_in(cast.alice).get(f"/log/{index}").content.decode()
        assert f'href="/keys/{key.id}/revoke?entry={index}"' in shown
        assert "Revoke the key that acted" in shown

    def test_who_may_not_is_offered_nothing(self, cast, key):
        client = builders.signed_in(cast.carol)
        for path in ("/log", f"/log/{self.entry_of(cast, key)}"):
            assert "/revoke" not in client.get(path).content.decode()

    @pytest.mark.parametrize("entry", ["//evil.example", "https://evil.example/", "x", "1/../../x", ""])
    def test_back_leads_nowhere_else(self, cast, key, entry):
        client = builders.signed_in(cast.alice)
        assert "evil" not in client.get(f"/keys/{key.id}/revoke", {"entry": entry}).content.decode()
        response = client.post(f"/keys/{key.id}/revoke?entry={entry}", {"reason": "leaked"})
        assert response["Location"] == f"/keys/{key.id}"


class TestErased:
    def test_it_is_said_when_and_by_which_entry(self, cast):
        record(cast.acme, cast.member(cast.alice), note="a phone number")
        index = size(cast.acme) - 1
        fields = {"entries": [index], "fields": ["note"]}
        record(cast.acme, cast.member(cast.alice), "ledger.erasure", target="usr_somebody", data=fields)
        client = builders.signed_in(cast.carol)
        shown = words(client.get(f"/log/{index}"))
        assert "a phone number" not in shown
        assert re.search(rf"erased on \d+ \w+ \d+, [\d:]+ UTC by entry {index + 1}", shown)
        assert f'href="/log/{index + 1}"' in client.get(f"/log/{index}").content.decode()

    def test_what_no_entry_erased_was_taken_away(self, cast):
        record(cast.acme, cast.member(cast.alice), note="a phone number")
        index = size(cast.acme) - 1
        with ledgers.without_triggers() as superuser:
            superuser.execute(
                b"DELETE FROM audit_sealed WHERE organization_id = %s AND index = %s AND field = 'note'",
                [cast.acme.id, index],
            )
        assert "taken away: no entry erased it" in words(builders.signed_in(cast.carol).get(f"/log/{index}"))


def run_sdk(command, folder):
    name, *arguments = shlex.split(command)
    assert name == "keystead"
    done = subprocess.run(
        [sys.executable, "-m", "keystead", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(cluster.ROOT / "sdk" / "src")},
        capture_output=True,
        check=False,
    )
    return done.returncode
