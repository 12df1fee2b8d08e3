"""The page that says how to check the ledger without us: each of its commands is run as it stands there."""

import base64
import html
import re
import shutil
import subprocess
import zipfile

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.urls import reverse

from audit import entry as entry_rules
from audit import ledger, note, tree
from audit.exports.bundle import open_bundle
from audit.proofs import proof
from audit.views.checking import PROGRAM
from tests import builders, bundles, ledgers

COMMAND = re.compile(r'<pre id="command-([a-z_]+)"[^>]*>(.*?)</pre>', re.DOTALL)
BY_HAND = ["note", "entry", "chain", "inclusion", "go_proof", "opening"]
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))


class Ledger:
    """A ledger as a customer holds it: in a folder, with the proof of one entry and the program of the page."""

    def __init__(self, organization_id, folder, index):
        self.folder = folder
        checkpoint = bundles.sign(organization_id)
        (folder / "bundle.zip").write_bytes(b"".join(open_bundle(organization_id)))
        shutil.unpack_archive(folder / "bundle.zip", folder / "bundle")
        hashes = [
            tree.leaf_hash(leaf) for leaf in (folder / "bundle/entries.jsonl").read_bytes().splitlines()
        ]
        path = tree.inclusion(
            index, len(hashes), lambda level, at: tree.root(hashes[at << level : at + 1 << level])
        )
        (folder / "proof").write_text(proof.write(index, path, checkpoint))
        (folder / "check_ledger.go").write_bytes(PROGRAM.read_bytes())

    def run(self, script):
        """Run a script as the page has it, in a shell that stops at nothing."""
        return subprocess.run(
            ["/bin/sh"],
            input=script,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def commands(client):
    page = client.get(reverse("audit:checking")).content.decode()
    return {name: html.unescape(text) for name, text in COMMAND.findall(page)}


def lines(said):
    return said.splitlines()


@pytest.fixture(params=[2, 7, 65])
def size(request):
    return request.param


@pytest.fixture
def cast():
    return builders.cast()


class TestByHand:
    @pytest.fixture
    def shown(self, cast, size, tmp_path):
        """The page's commands for a ledger, the numbers of entries to try, and a folder to try them in."""
        ledgers.append(cast.acme.id, size)
        return commands(builders.signed_in(cast.alice))

    def test_every_command_says_what_the_page_promises(self, cast, shown, tmp_path):
        index = int(re.search(r"^N=(\d+)$", shown["entry"], re.MULTILINE)[1])
        mine = Ledger(cast.acme.id, tmp_path, index)
        leaf = lines((tmp_path / "bundle/entries.jsonl").read_text())[index].encode()
        entry = entry_rules.parse(leaf)
        said = mine.run(
            "\n".join([shown["go_build"], shown["unpack"], *(f"echo '### {n}'\n{shown[n]}" for n in BY_HAND)])
        )
        assert said.stderr == "", said.stderr
        parts = dict(part.split("\n", 1) for part in said.stdout.split("### ") if part)
        assert parts["note"] == "Signature Verified Successfully\n"
        assert parts["entry"].startswith(tree.leaf_hash(leaf).hex())
        prev = base64.b64encode(entry.prev).decode()
        assert lines(parts["chain"]) == [prev, prev]
        here, signed = lines(parts["inclusion"])
        assert here == signed
        assert here.startswith("0 ")
        assert parts["go_proof"].startswith("good: ")
        field = re.search(r"^FIELD=(\w+)$", shown["opening"], re.MULTILINE)[1]
        assert lines(parts["opening"]) == [entry.sealed[field], entry.sealed[field]]


class TestEachCommandFindsWhatItIsFor:
    """What a forger changes: the command says something else then, or fails."""

    SIZE = 11

    @pytest.fixture
    def mine(self, cast, tmp_path):
        ledgers.append(cast.acme.id, self.SIZE)
        self.shown = commands(builders.signed_in(cast.alice))
        self.index = int(re.search(r"^N=(\d+)$", self.shown["entry"], re.MULTILINE)[1])
        return Ledger(cast.acme.id, tmp_path, self.index)

    def said(self, mine, *names):
        before = (
            [] if "entry" in names or "note" in names else ["{ " + self.shown["entry"] + "\n} > /dev/null"]
        )
        return mine.run("\n".join(["cd bundle", *before, *(self.shown[name] for name in names)]))

    def change(self, mine, name, old, new):
        path = mine.folder / name
        text = path.read_bytes()
        assert old in text
        path.write_bytes(text.replace(old, new, 1))

    def test_the_size_that_was_signed(self, mine):
        size = lines((mine.folder / "bundle/checkpoint").read_text())[1].encode()
        self.change(mine, "bundle/checkpoint", b"\n" + size + b"\n", b"\n9999\n")
        said = self.said(mine, "note")
        assert "Verified Successfully" not in said.stdout
        assert said.returncode != 0

    def test_a_signature_by_a_key_that_nobody_knows_is_passed_over(self, mine):
        path = mine.folder / "bundle/checkpoint"
        text, _, signatures = path.read_text().partition("\n\n")
        another = note.sign(text + "\n", text.split("\n")[0], OTHER).partition("\n\n")[2]
        for several in (another + signatures, signatures + another):
            path.write_text(f"{text}\n\n{several}")
            assert self.said(mine, "note").stdout == "Signature Verified Successfully\n"

    def test_a_note_of_another_key(self, mine):
        path = mine.folder / "bundle/checkpoint"
        text, origin = path.read_text().partition("\n\n")[0] + "\n", path.read_text().split("\n")[0]
        path.write_text(note.sign(text, origin, OTHER))
        assert "Verified Successfully" not in self.said(mine, "note").stdout

    def test_an_entry(self, mine):
        whole = (mine.folder / "bundle/entries.jsonl").read_bytes().split(b"\n")
        whole[self.index] = whole[self.index].replace(b"usr_alice", b"usr_other")
        (mine.folder / "bundle/entries.jsonl").write_bytes(b"\n".join(whole))
        here, signed = lines(self.said(mine, "inclusion").stdout)
        assert here != signed

    def test_the_entry_before(self, mine):
        whole = (mine.folder / "bundle/entries.jsonl").read_bytes().split(b"\n")
        whole[self.index - 1] = whole[self.index - 1].replace(b'"v":1', b'"v":2')
        (mine.folder / "bundle/entries.jsonl").write_bytes(b"\n".join(whole))
        here, named = lines(self.said(mine, "chain").stdout)
        assert here != named

    @pytest.mark.parametrize("line", [2, 3, -5])
    def test_the_proof(self, mine, line):
        path = mine.folder / "proof"
        text = path.read_text().split("\n")
        text[line] = base64.b64encode(bytes(32)).decode()
        path.write_text("\n".join(text))
        here, signed = lines(self.said(mine, "inclusion").stdout)
        assert here != signed

    def test_an_opening(self, mine):
        path = mine.folder / "bundle/sealed.jsonl"
        changed = [line.replace(b'"value":"', b'"value":"x') for line in path.read_bytes().split(b"\n")]
        path.write_bytes(b"\n".join(changed))
        here, sealed = lines(self.said(mine, "opening").stdout)
        assert here != sealed


class TestWithGo:
    """The program of the page, on the bundle of the page."""

    @pytest.fixture
    def mine(self, cast, tmp_path):
        ledgers.append(cast.acme.id, 9)
        self.shown = commands(builders.signed_in(cast.alice))
        return Ledger(cast.acme.id, tmp_path, 3)

    def test_it_is_built_and_finds_that_all_fits(self, mine):
        said = mine.run("\n".join([self.shown["go_build"], self.shown["go_verify"]]))
        assert said.stderr == ""
        assert lines(said.stdout)[-1] == "0"
        assert "good: " in said.stdout

    def test_it_names_the_entry_that_was_changed(self, mine):
        with zipfile.ZipFile(mine.folder / "bundle.zip") as whole:
            members = {name: whole.read(name) for name in whole.namelist()}
        with zipfile.ZipFile(mine.folder / "bundle.zip", "w") as changed:
            for name, text in members.items():
                changed.writestr(name, text.replace(b'"name":"ingest 3"', b'"name":"ingest X"'))
        said = mine.run("\n".join([self.shown["go_build"], self.shown["go_verify"]]))
        assert lines(said.stdout)[-1] == "1"
        assert "entry" in said.stderr

    def test_its_packages_are_debians(self, mine):
        """What `apt-get install` of the page would do here: nothing, since the tests have them."""
        wanted = self.shown["go_install"].removeprefix("sudo apt-get install ").split()
        said = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\n", *wanted],
            capture_output=True,
            text=True,
            check=True,
        )
        assert [line.split()[1] for line in lines(said.stdout)] == ["ii"] * len(wanted)


class TestThePage:
    def test_it_names_the_log_and_the_key_to_write_down(self, cast):
        client = builders.signed_in(cast.carol)
        page = client.get(reverse("audit:checking")).content.decode()
        assert "check_ledger.go" in page
        origin = re.search(rf"[\w.]+/ledger/{cast.acme.id}", page)[0]
        assert html.escape(ledger.verifier_key(origin)) in page
        assert ledger.verifier_key(origin) in commands(client)["pin"]

    def test_the_program_is_the_one_of_the_repository(self, cast):
        answer = builders.signed_in(cast.bob).get(reverse("audit:checking_program"))
        assert b"".join(answer.streaming_content) == PROGRAM.read_bytes()
        assert "attachment" in answer["Content-Disposition"]

    def test_whoever_reads_only_their_own_entries_reads_it_too(self, cast):
        assert builders.signed_in(cast.bob).get(reverse("audit:checking")).status_code == 200
        assert builders.signed_in(cast.vera).get(reverse("audit:checking")).status_code == 404
