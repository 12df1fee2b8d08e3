"""The command `keystead`, run as a process."""

import json

from tests import builders
from tests.sdk.faulty import Planned
from tests.sdk.test_faults import KEY_DOCUMENT, RAW, unreachable


def draft(name):
    return (
        "--name",
        name,
        "--kind",
        "control_plane",
        "--environment",
        "production",
        "--scope",
        "incidents:read",
    )


def test_the_life_of_a_key(run):
    name = builders.unique("cli")
    made = run("create", *draft(name), "--tag", "team=noc", "--expires-in-days", "7")
    assert made.returncode == 0, made.stderr
    secret = made.stdout.strip()
    assert secret not in made.stderr
    key_id = made.stderr.split()[0]

    judged = run("verify", given=secret + "\n")
    assert judged.returncode == 0
    assert judged.stdout.splitlines()[0].split() == ["CODE", "VALID"]
    assert key_id in judged.stdout
    assert secret not in judged.stdout + judged.stderr
    assert run("verify", "--scope", "incidents:write", given=secret).returncode == 1

    listed = run("list", "--search", name)
    header, row = listed.stdout.splitlines()
    assert row.split()[:4] == [key_id, name, "control_plane", "active"]
    assert header.index("STATUS") == row.index("active")

    rotated = run("rotate", key_id, "--grace-seconds", "60", "--json")
    document = json.loads(rotated.stdout)
    assert (document["key"]["id"], document["rotation"]["status"]) == (key_id, "running")
    assert run("verify", given=document["secret"]).returncode == 0

    assert run("revoke", key_id, "--reason", "unused").returncode == 0
    assert "REVOKED" in run("verify", given=secret).stdout


def test_json_has_no_secret_but_the_one_that_was_made(run):
    made = json.loads(run("create", *draft(builders.unique("cli")), "--json").stdout)
    assert set(made) == {"key", "secret", "secret_status"}
    judged = run("verify", "--json", given=made["secret"])
    document = json.loads(judged.stdout)
    assert (document["valid"], document["key"]["id"]) == (True, made["key"]["id"])
    assert made["secret"] not in judged.stdout
    listed = json.loads(run("list", "--json", "--limit", "3").stdout)
    assert 1 <= len(listed) <= 3


def test_secrets_and_keys_from_files(run, portal, presented, tmp_path):
    own, secret = tmp_path / "own", tmp_path / "secret"
    own.write_text(portal.key + "\n")
    secret.write_text(presented.secret + "\n")
    done = run("verify", "--key-file", str(own), "--secret-file", str(secret), KEYSTEAD_KEY="")
    assert done.returncode == 0
    assert run("verify", "--secret-file", str(tmp_path / "none")).returncode == 2
    assert run("list", KEYSTEAD_KEY_FILE=str(own), KEYSTEAD_KEY="").returncode == 0


def test_a_secret_in_the_wrong_place_is_not_repeated(run, presented):
    for arguments in (
        ("verify", presented.secret),
        ("revoke", presented.secret),
        ("list", "--search", presented.secret),
    ):
        done = run(*arguments)
        assert done.returncode == 2
        assert presented.secret not in done.stdout + done.stderr


def test_each_failure_has_its_code(run, presented):
    assert run("verify", given="x").returncode == 1
    assert run("nonsense").returncode == 2
    assert run("list", KEYSTEAD_KEY="").returncode == 2
    assert run("list", KEYSTEAD_URL="http://keys.example.com").returncode == 2
    assert run("list", KEYSTEAD_KEY="ks_cp_live_" + "0" * 49).returncode == 3
    assert run("list", KEYSTEAD_KEY=presented.secret).returncode == 3
    assert run("revoke", "key_" + "a" * 20).returncode == 4
    assert run("verify", given="x", KEYSTEAD_URL=unreachable()).returncode == 5


def test_help_and_version(run):
    assert "exit codes:" in run("--help").stdout
    assert run("--version").stdout.strip()
    assert "--secret-file" in run("verify", "--help").stdout


def test_a_name_can_do_nothing_to_a_terminal(run, faulty):
    evil = {**KEY_DOCUMENT, "name": "\x1b[2J\x07\u202eevil", "hint": RAW}
    faulty.answers(Planned(body={"data": [evil], "next_cursor": None}))
    shown = run("list", KEYSTEAD_URL=faulty.url).stdout
    assert "evil" in shown
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)
    assert RAW not in shown


def test_tables_are_aligned_by_what_is_seen():
    from keystead.tables import aligned

    table = aligned(("A", "B"), [("名前", "x"), ("e\u0301", "y"), ("abcd", "z")])
    assert table.splitlines() == ["A     B", "名前  x", "e\u0301     y", "abcd  z"]
