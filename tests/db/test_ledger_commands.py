"""The commands about the ledger, and what a server checks before it serves."""

import io
import stat

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connections

from audit import checks, ledger
from audit.management.commands import ledger as ledger_command
from orgs import ids
from tests import cluster, ledgers


def run(*arguments, **options):
    out, err = io.StringIO(), io.StringIO()
    call_command(*arguments, **options, stdout=out, stderr=err)
    return out.getvalue()


class TestVerify:
    def test_every_ledger_has_its_line(self):
        ours, theirs = ledgers.new(3), ledgers.new(2)
        with ledgers.superuser() as superuser:
            sound = superuser.execute("SELECT count(*) FROM audit_head").fetchone()[0]
        try:
            lines = run("ledger", "verify").splitlines()
        except CommandError as fault:
            # Another test of this process left a ledger that it had tampered with.
            assert ours not in str(fault)
            assert theirs not in str(fault)
        else:
            assert len(lines) == sound
            assert sum(ours in line and "size 3" in line for line in lines) == 1

    def test_an_unknown_organization(self):
        with pytest.raises(CommandError, match="There is no ledger of org_unknown") as caught:
            run("ledger", "verify", organization="org_unknown")
        assert caught.value.returncode == 2

    def test_without_the_notarys_login(self, monkeypatch):
        monkeypatch.delitem(connections.settings, "notary")
        with pytest.raises(CommandError, match="DATABASE_NOTARY_URL is not set") as caught:
            run("ledger", "verify")
        assert caught.value.returncode == 2

    def test_a_database_that_refuses(self):
        organization_id = ledgers.new(2)
        with ledgers.superuser() as superuser:
            superuser.execute("REVOKE SELECT ON audit_head FROM keystead_notary")
            try:
                with pytest.raises(CommandError, match="can't be read: permission denied") as caught:
                    run("ledger", "verify", organization=organization_id)
            finally:
                superuser.execute("GRANT SELECT ON audit_head TO keystead_notary")
        assert caught.value.returncode == 2

    def test_a_long_one_says_how_far_it_is(self, monkeypatch):
        monkeypatch.setattr(ledger_command, "PROGRESS_SECONDS", -1)
        organization_id, err = ledgers.new(3), io.StringIO()
        call_command("ledger", "verify", organization=organization_id, stdout=io.StringIO(), stderr=err)
        assert f"{organization_id}  2 entries …" in err.getvalue()


class TestNotaryInit:
    def test_it_makes_a_pair_and_says_which_setting_names_it(self, tmp_path):
        folder = tmp_path / "a" / "notary"
        said = run("notary", "init", folder=folder)
        public, private = folder / "public.pem", folder / "private.pem"
        assert said.splitlines() == [str(public), f"LEDGER_PUBLIC_KEY_FILE={public}"]
        key = load_pem_private_key(private.read_bytes(), None)
        assert load_pem_public_key(public.read_bytes()) == key.public_key()
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    def test_its_place_is_in_the_installations_own_folder(self, tmp_path, settings):
        settings.KEYSTEAD_HOME = tmp_path
        run("notary", "init")
        assert (tmp_path / "notary" / "private.pem").exists()

    @pytest.mark.parametrize("name", ["private.pem", "public.pem"])
    def test_it_overwrites_nothing(self, tmp_path, name):
        (tmp_path / name).write_text("kept")
        with pytest.raises(CommandError, match=f"{name} exists already"):
            run("notary", "init", folder=tmp_path)
        assert [path.read_text() for path in tmp_path.iterdir()] == ["kept"]

    def test_a_folder_that_can_not_be_made(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(CommandError, match="file"):
            run("notary", "init", folder=tmp_path / "file" / "notary")


class TestNotaryRotateKey:
    def test_it_makes_the_next_pair_and_a_file_of_all_public_halves(self, tmp_path, settings):
        run("notary", "init", folder=tmp_path)
        kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        said = run("notary", "rotate-key", folder=tmp_path)
        assert said.splitlines()[1] == f"LEDGER_PUBLIC_KEY_FILE={tmp_path / 'public-2.pem'}"
        run("notary", "rotate-key", folder=tmp_path)
        assert kept == {name: (tmp_path / name).read_bytes() for name in kept}
        assert stat.S_IMODE((tmp_path / "private-2.pem").stat().st_mode) == 0o600
        private = [
            load_pem_private_key((tmp_path / name).read_bytes(), None)
            for name in ("private.pem", "private-2.pem", "private-3.pem")
        ]
        settings.LEDGER_PUBLIC_KEY = (tmp_path / "public-3.pem").read_text()
        ledger.public_keys.cache_clear()
        try:
            assert list(ledger.public_keys()) == [key.public_key().public_bytes_raw() for key in private]
        finally:
            ledger.public_keys.cache_clear()

    def test_before_the_first(self, tmp_path):
        with pytest.raises(CommandError, match="notary init"):
            run("notary", "rotate-key", folder=tmp_path)

    def test_with_a_key_that_can_not_be_read(self, tmp_path):
        run("notary", "init", folder=tmp_path)
        (tmp_path / "private.pem").write_text("no key")
        with pytest.raises(CommandError, match="is no Ed25519 key"):
            run("notary", "rotate-key", folder=tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {"private.pem", "public.pem"}

    def test_what_is_there_stays(self, tmp_path):
        run("notary", "init", folder=tmp_path)
        (tmp_path / "public-2.pem").write_text("kept")
        with pytest.raises(CommandError, match=r"public-2\.pem exists already"):
            run("notary", "rotate-key", folder=tmp_path)
        assert not (tmp_path / "private-2.pem").exists()


class TestSettings:
    def test_what_the_tests_run_with_is_right(self):
        assert checks.check_ledger_settings(None) == []

    @pytest.mark.parametrize("pem", ["", "nonsense"])
    def test_no_public_key(self, settings, pem):
        settings.LEDGER_PUBLIC_KEY = pem
        ledger.public_keys.cache_clear()
        try:
            assert [error.id for error in checks.check_ledger_settings(None)] == ["audit.E001"]
        finally:
            ledger.public_keys.cache_clear()

    @pytest.mark.parametrize("host", ["", "Keys.example", "keys.example:8000", "::1", "a/b", "a" * 170])
    def test_a_host_that_no_log_can_have(self, settings, host):
        settings.LEDGER_ORIGIN_HOST = host
        assert [error.id for error in checks.check_ledger_settings(None)] == ["audit.E002"]


class TestLogin:
    def refused(self):
        with pytest.raises(ImproperlyConfigured) as caught:
            checks.refuse_unsafe_login()
        return str(caught.value)

    def test_the_applications_login_is_safe(self):
        checks.refuse_unsafe_login()
        assert checks.check_login(None, databases=["default"]) == []

    def test_it_is_not_asked_without_a_database(self):
        assert checks.check_login(None) == []

    @pytest.mark.parametrize(
        ("alias", "what"),
        [
            ("notary", ["may write to audit_checkpoint"]),
            ("verify", None),
            ("migrate", ["is a member of another role", "owns tables"]),
        ],
    )
    def test_which_other_logins_would_be(self, monkeypatch, alias, what):
        monkeypatch.setattr(checks, "connection", connections[alias])
        if what is None:
            checks.refuse_unsafe_login()
            return
        assert all(words in self.refused() for words in what)

    @pytest.mark.parametrize(
        ("change", "back", "what"),
        [
            ("ALTER ROLE {} SUPERUSER", "ALTER ROLE {} NOSUPERUSER", "is a superuser"),
            ("ALTER ROLE {} BYPASSRLS", "ALTER ROLE {} NOBYPASSRLS", "bypasses row security"),
            ("GRANT keystead_owner TO {}", "REVOKE keystead_owner FROM {}", "is a member of another role"),
            (
                "GRANT UPDATE ON audit_head TO {}",
                "REVOKE UPDATE ON audit_head FROM {}",
                "write to audit_head",
            ),
        ],
    )
    def test_a_login_that_is_more_than_it_should_be(self, change, back, what, other_login):
        with ledgers.superuser() as superuser:
            superuser.execute(change.format(other_login).encode())
            try:
                assert what in self.refused()
            finally:
                superuser.execute(back.format(other_login).encode())
        checks.refuse_unsafe_login()

    @pytest.mark.parametrize("how", ["ENABLE", "ENABLE REPLICA", "DISABLE"])
    def test_a_trigger_that_does_not_always_fire(self, how):
        with ledgers.superuser() as superuser:
            try:
                superuser.execute(f"ALTER TABLE audit_entry {how} TRIGGER audit_entry_keep".encode())
                assert "audit_entry_keep of audit_entry is not ENABLE ALWAYS" in self.refused()
            finally:
                superuser.execute(ledgers.ALWAYS)

    @pytest.fixture
    def other_login(self, monkeypatch):
        """A login with the application's rights, of this test alone: roles belong to the whole server."""
        name = ids.new("login")
        with ledgers.superuser() as superuser:
            superuser.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'".encode())
            superuser.execute(f"GRANT CONNECT ON DATABASE {cluster.database()} TO {name}".encode())
            superuser.execute(f"GRANT USAGE ON SCHEMA public TO {name}".encode())
        settings = connections["default"].settings_dict | {"USER": name, "PASSWORD": "x"}
        monkeypatch.setitem(connections.settings, name, settings)
        monkeypatch.setattr(checks, "connection", connections[name])
        yield name
        connections[name].close()
        del connections[name]
        with ledgers.superuser() as superuser, superuser.transaction():
            superuser.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())
