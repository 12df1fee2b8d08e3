"""The page that says how to check the ledger without us, against the portal as it runs: fetch, keep, verify."""

import html
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from django.conf import settings
from django.urls import reverse

from audit import note
from tests import builders, bundles, ledgers
from tests.api import calls

ROOT = Path(__file__).resolve().parents[2]
COMMAND = re.compile(r'<pre id="command-([a-z_]+)"[^>]*>(.*?)</pre>', re.DOTALL)
# The command as an installed distribution has it (its installing: test_installing).
INSTALLED = f'#!/bin/sh\nexec {sys.executable} -c "import sys; from keystead.cli import main; sys.exit(main())" "$@"\n'


class Customer:
    """Somebody with the page's commands and a key, in a folder of their own."""

    def __init__(self, folder, shown, key):
        self.folder, self.shown = folder, shown
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "KEYSTEAD_KEY": key,
            "PYTHONPATH": str(ROOT / "sdk" / "src"),
        }
        command = folder / "check" / "bin" / "keystead"
        command.parent.mkdir(parents=True)
        command.write_text(INSTALLED)
        command.chmod(0o755)

    def run(self, *names, older=""):
        script = "\n".join(self.shown[name].replace("OLDER", older) for name in names)
        return subprocess.run(
            ["/bin/sh"],
            input=script,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def customer(server, cast, tmp_path):
    ledgers.append(cast.acme.id, 6)
    bundles.sign(cast.acme.id)
    page = builders.signed_in(cast.alice).get(reverse("audit:checking")).content.decode()
    shown = {
        name: html.unescape(text).replace(settings.KEYSTEAD_BASE_URL, server.url)
        for name, text in COMMAND.findall(page)
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
