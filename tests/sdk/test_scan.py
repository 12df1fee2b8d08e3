"""`keystead scan`: what is a secret is found, what is none is not, and no secret is shown."""

import base64
import json
import os
import random
import string
import subprocess
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from keystead.scanning import Choice, Scanner, Skipped
from keystead.secret import check

from keys import secret as portal_secrets

SCANNER = Scanner()


def draw(brand="ks", kind=portal_secrets.Kind.SERVICE, mode=portal_secrets.Mode.LIVE) -> str:
    return portal_secrets.generate(brand, kind, mode)


@pytest.fixture
def secret():
    return draw()


@given(
    before=st.binary(max_size=80),
    after=st.binary(max_size=80),
    kind=st.sampled_from(portal_secrets.Kind),
    mode=st.sampled_from(portal_secrets.Mode),
)
def test_the_portals_secrets_are_found_wherever_they_are(before, after, kind, mode):
    made = draw(kind=kind, mode=mode)
    assert made in [hit.secret for hit in SCANNER.hits(before + made.encode() + after)]


@given(before=st.binary(max_size=20), after=st.binary(max_size=20))
def test_and_in_base64_at_any_alignment(before, after):
    made = draw()
    text = base64.b64encode(before + made.encode() + after)
    assert [hit.secret for hit in SCANNER.hits(b"data: " + text)] == [made]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n" + b" " * 8])
@pytest.mark.parametrize("length", range(48))
def test_and_in_base64_that_is_broken_into_lines(secret, length, end):
    text = base64.encodebytes(b"x" * length + secret.encode()).replace(b"\n", end)
    assert [hit.secret for hit in SCANNER.hits(text)] == [secret]


@pytest.mark.parametrize(
    "written",
    [
        lambda made: made,
        lambda made: made.replace("_", "\\_"),
        lambda made: quote(made).replace("_", "%5F"),
        lambda made: made.replace("_", "\\u005f"),
        lambda made: f"https://{made}@example.com",
        lambda made: f"{made}{made}",
        lambda made: f"x{made}x",
        lambda made: f"{made[:-7]}ks_{made[3:]}",
    ],
)
def test_as_it_is_written_elsewhere(secret, written):
    assert {hit.secret for hit in SCANNER.hits(written(secret).encode())} == {secret}


@pytest.mark.parametrize("size", range(1, 61))
def test_one_wrong_character_is_none(secret, size):
    at = len(secret) - size
    changed = (
        secret[:at]
        + ("-" if secret[at] == "_" else "_" if size > 49 else _other(secret[at]))
        + secret[at + 1 :]
    )
    assert not SCANNER.hits(changed.encode())


def _other(letter):
    return "b" if letter == "a" else "a"


def test_no_false_alarms():
    seeded = random.Random(5)
    letters = string.ascii_letters + string.digits
    lines = [f"ks_cp_live_{''.join(seeded.choices(letters, k=49))}" for _ in range(20_000)]
    assert not SCANNER.hits("\n".join(lines).encode())
    assert not SCANNER.hits(b"tasks_in_live_performance ks_cp_live_ ks_sv_test_AbCd\xe2\x80\xa6")


def test_brands(secret):
    other = draw("acme7")
    text = f"{secret} {other}".encode()
    assert [hit.secret for hit in SCANNER.hits(text)] == [secret]
    assert [hit.secret for hit in Scanner(["acme7"]).hits(text)] == [other]
    assert len(Scanner(["ks", "acme7"]).hits(text)) == 2
    encoded = base64.b64encode(b"user:" + other.encode())
    assert [hit.secret for hit in Scanner(["acme7"]).hits(encoded)] == [other]
    for bad in ([], ["a"], ["KS"], ["ks", "a-b"]):
        with pytest.raises(ValueError, match="brand"):
            Scanner(bad)


def test_line_and_column(secret):
    text = f"a\nb = é {secret}\n\n {secret}\r\n".encode()
    found = list(SCANNER.findings("f", text))
    assert [(each.line, each.column) for each in found] == [(2, 7), (4, 2)]
    wide = f"a\n{secret}".encode("utf-16")
    assert [(each.line, each.column) for each in SCANNER.findings("f", wide)] == [(2, 1)]


def test_it_is_fast():
    seeded = random.Random(7)
    words = ["".join(seeded.choices(string.ascii_lowercase, k=seeded.randint(2, 9))) for _ in range(5_000)]
    text = " ".join(seeded.choices([*words, "tasks", "ks_cp_live_", "a3Nf"], k=2_000_000)).encode()
    begun = time.process_time()
    assert not SCANNER.hits(text)
    assert len(text) / (time.process_time() - begun) > 50e6


class TestFiles:
    @pytest.fixture
    def tree(self, tmp_path, secret):
        (tmp_path / "a").mkdir()
        (tmp_path / ".git").mkdir()
        (tmp_path / "a" / "env").write_text(f"A=1\nK={secret}\n")
        (tmp_path / ".git" / "config").write_text(secret)
        (tmp_path / "binary").write_bytes(b"\0" + secret.encode())
        (tmp_path / "large").write_bytes(b"x" * 2_000_000 + secret.encode())
        outside = tmp_path.parent / f"{tmp_path.name}-outside"
        outside.mkdir()
        (outside / "other").write_text(secret)
        (tmp_path / "link").symlink_to(outside)
        (tmp_path / "file-link").symlink_to(outside / "other")
        (tmp_path / "dangling").symlink_to("nowhere")
        os.mkfifo(tmp_path / "pipe")
        return tmp_path

    def names(self, tree, *paths, **choice):
        skipped = Skipped()
        read = Choice(max_size=1_000_000, **choice).read(list(map(str, paths or [tree])), skipped)
        return [os.path.relpath(name, tree) for name, _ in read], skipped

    def test_a_folder_is_walked_without_leaving_it(self, tree):
        assert self.names(tree) == (["a/env"], Skipped(binary=1, large=1))
        assert self.names(tree, binary=True)[0] == ["binary", "a/env"]

    def test_what_is_named_is_read(self, tree):
        assert self.names(tree, tree / "file-link", tree / ".git/config")[0] == ["file-link", ".git/config"]
        _, skipped = self.names(tree, tree / "none", tree / "dangling")
        assert len(skipped.errors) == 2

    def test_the_command(self, run, tree, secret):
        done = run("scan", str(tree), "--max-size", "1", KEYSTEAD_URL="", KEYSTEAD_KEY="")
        assert done.returncode == 1
        assert done.stdout == f"{tree}/a/env:2:3: {secret[:15]}…\n"
        assert secret[:20] not in done.stdout + done.stderr
        assert done.stderr.count("larger than --max-size") == 1
        document = json.loads(run("scan", str(tree), "--json").stdout)
        assert [set(each) for each in document["findings"]] == [{"path", "line", "column", "hint"}] * 2

    def test_exit_codes(self, run, tree, secret):
        assert run("scan", "-", given="nothing").returncode == 0
        assert run("scan", "-", given=secret).returncode == 1
        assert run("scan", str(tree / "none")).returncode == 2
        assert run("scan").returncode == 2
        assert run("scan", str(tree / "none"), "-", given=secret).returncode == 1

    def test_what_is_staged_counts_and_nothing_else(self, run, tmp_path, secret, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for command in (["init", "-q"], ["config", "user.email", "a@b"], ["config", "user.name", "a"]):
            subprocess.run(["git", *command], check=True)
        (tmp_path / "new\nline é").write_text(f"x\n{secret}")
        (tmp_path / "clean").write_text(secret)
        assert run("scan", "--staged").returncode == 0
        subprocess.run(["git", "add", "new\nline é"], check=True)
        (tmp_path / "new\nline é").write_text("taken out again")
        done = run("scan", "--staged")
        assert (done.returncode, done.stdout) == (1, f"new�line é:2:1: {secret[:15]}…\n")
        assert run("scan", "--staged", "clean").returncode == 0

    def test_staged_without_a_repository(self, run, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        done = run("scan", "--staged", GIT_CEILING_DIRECTORIES=str(tmp_path.parent))
        assert done.returncode == 2
        assert "git" in done.stderr


class TestBurning:
    def test_a_found_key_is_dead_when_the_command_ends(self, run, client, presented):
        client.api_keys.validate(presented.secret)
        done = run("scan", "-", "--burn", "--yes", given=f"look: {presented.secret}!", KEYSTEAD_KEY="")
        assert done.returncode == 1, done.stderr
        assert client.keys.verify(presented.secret).code == "REVOKED"
        assert presented.secret[:20] not in done.stdout + done.stderr

    def test_nothing_is_burned_without_a_yes(self, run, client, presented):
        done = run("scan", "-", "--burn", given=presented.secret)
        assert done.returncode == 2
        assert "--yes" in done.stderr
        assert client.keys.verify(presented.secret)

    def test_a_portal_out_of_reach_is_said(self, run, secret):
        from tests.sdk.test_faults import unreachable

        done = run("scan", "-", "--burn", "--yes", given=secret, KEYSTEAD_URL=unreachable())
        assert done.returncode == 5
        assert "not burned" in done.stderr

    def test_the_clients_own_key_is_not_sent_along(self, faulty):
        from keystead import Keystead

        from tests.sdk.conftest import KEY
        from tests.sdk.faulty import Planned

        faulty.answers(Planned(202, b""))
        with Keystead(faulty.url, KEY) as own:
            assert own.keys.burn(draw()) is None
        (received,) = faulty.received
        assert "authorization" not in received.headers
        assert (received.method, received.path) == ("POST", "/v1/keys/revoke")


def test_the_checksum_is_the_portals():
    made = draw()
    assert check(made[:-6].encode()).decode() == made[-6:] == portal_secrets.check(made[:-6])


@pytest.mark.parametrize("how", [(), ("--json",)])
def test_a_file_that_is_named_after_its_secret_is_told_of_without_it(run, secret, tmp_path, how):
    (tmp_path / f"{secret}.txt").write_text(secret)
    done = run("scan", str(tmp_path), *how, KEYSTEAD_URL="", KEYSTEAD_KEY="")
    assert done.returncode == 1
    assert secret not in done.stdout + done.stderr


@pytest.mark.parametrize("size", ["inf", "nan", "-1", "0", "1e400", "x"])
def test_a_size_that_is_none_is_refused(run, tmp_path, size):
    done = run("scan", str(tmp_path), "--max-size", size, KEYSTEAD_URL="", KEYSTEAD_KEY="")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
