"""The page that says how to check the ledger without us, against the portal as it runs: fetch, keep, verify."""

import re
import subprocess
import zipfile

import pytest
from django.conf import settings
from django.urls import reverse

from audit import note
from tests import builders, bundles, ledgers
from tests.api import calls
from tests.customer import Customer, commands


@pytest.fixture
def customer(server, cast, tmp_path):
    ledgers.append(cast.acme.id, 6)
    bundles.sign(cast.acme.id)
    page = builders.signed_in(cast.alice).get(reverse("audit:checking")).content.decode()
    shown = {
        name: text.replace(settings.KEYSTEAD_BASE_URL, server.url) for name, text in commands(page).items()
    }
    return Customer(tmp_path, shown, calls.key(cast.acme, cast.alice, scopes=["audit:read"]).secret)


def keep(customer):
    """Save the script as the page says, run it as cron would, and return the file that it kept."""
    (customer.folder / "keep-checkpoint").write_text(customer.shown["keep"])
    before = set(customer.folder.glob("checkpoint-*"))
    done = subprocess.run(
        ["/bin/sh", "keep-checkpoint"],
        cwd=customer.folder,
        env=customer.environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (kept,) = set(customer.folder.glob("checkpoint-*")) - before
    return kept


def last(done):
    return done.stdout.splitlines()[-1]


def test_what_is_fetched_is_good_and_continues_what_was_kept(customer, cast):
    older = keep(customer)
    ledgers.append(cast.acme.id, 3)
    bundles.sign(cast.acme.id)
    fetched = customer.run("pin", "download", "proof")
    assert fetched.stderr == ""
    pinned = (customer.folder / "keystead.vkeys").read_text().splitlines()
    assert zipfile.ZipFile(customer.folder / "bundle.zip").read("vkeys").decode().splitlines() == pinned
    assert (customer.folder / "proof").read_text().startswith("c2sp.org/tlog-proof@v1\n")
    good = customer.run("verify")
    assert last(good) == "0", good.stderr
    continues = customer.run("verify_older", older=older.name)
    assert last(continues) == "0", continues.stderr
    assert "continues" in continues.stdout


@pytest.mark.parametrize(
    ("old", "new", "code"), [(b"ingest 3", b"ingest X", "1"), (b'"v":1', b'"v":1 ', "1")]
)
def test_what_was_changed_is_named(customer, old, new, code):
    customer.run("download")
    path = customer.folder / "bundle.zip"
    with zipfile.ZipFile(path) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    assert old in members["entries.jsonl"]
    with zipfile.ZipFile(path, "w") as changed:
        for name, text in members.items():
            changed.writestr(name, text.replace(old, new) if name == "entries.jsonl" else text)
    refused = customer.run("verify")
    assert last(refused) == code
    assert "entry" in refused.stderr


def test_half_a_download_is_no_bundle(customer):
    customer.run("download")
    path = customer.folder / "bundle.zip"
    path.write_bytes(path.read_bytes()[:500])
    assert last(customer.run("verify")) == "2"


def test_another_key_is_not_trusted(customer):
    customer.run("download")
    origin = re.search(r"--vkey (\S+?)\+", customer.shown["verify"])[1]
    other = note.VerifierKey(origin, bytes(31) + b"\x09").format()
    customer.shown["verify"] = re.sub(r"--vkey \S+", f"--vkey {other}", customer.shown["verify"])
    assert last(customer.run("verify")) == "3"


def test_two_histories_are_told_apart(customer, cast):
    older = keep(customer)
    text = older.read_text().split("\n")
    body = note.checkpoint_text(text[0], int(text[1]), bytes(32))
    older.write_text(note.sign(body, text[0], bundles.SIGNER))
    customer.run("download")
    assert last(customer.run("verify_older", older=older.name)) == "4"
