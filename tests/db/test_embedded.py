"""The embedded PostgreSQL, run for real in folders of its own."""

import os
import shutil
import signal
import stat
import subprocess
import threading
import time

import psycopg
import pytest

from portal import embedded, embedded_user
from portal.embedded import Cluster, EmbeddedError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")


@pytest.fixture(scope="module")
def initialised(tmp_path_factory):
    """Data just created: most tests copy them, because initdb is what takes long."""
    cluster = Cluster(tmp_path_factory.mktemp("initialised"), durable=False)
    cluster.start()
    cluster.stop()
    return cluster.folder


@pytest.fixture
def cluster(tmp_path, initialised):
    made = Cluster(tmp_path / "pg", durable=False)
    shutil.copytree(initialised, made.folder)
    yield made
    made.erase()


@pytest.fixture
def empty(tmp_path):
    made = Cluster(tmp_path / "empty", durable=False)
    yield made
    made.erase()


def answers(cluster, user="postgres"):
    with psycopg.connect(cluster.url(user)) as connection:
        return connection.execute("SELECT current_user::text").fetchone() == (user,)


def kill_server(cluster):
    pid = int((cluster.data / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while cluster.is_running() and time.monotonic() < deadline:
        time.sleep(0.05)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


class TestStart:
    def test_it_answers_until_it_is_stopped(self, cluster):
        cluster.start()
        assert answers(cluster)
        cluster.stop()
        assert not cluster.is_running()
        with pytest.raises(psycopg.OperationalError):
            answers(cluster)

    def test_data_and_passwords_outlive_a_stop(self, cluster):
        cluster.start()
        with psycopg.connect(cluster.url()) as connection:
            connection.execute("CREATE TABLE kept (id int)")
        cluster.stop()
        cluster.start()
        with psycopg.connect(cluster.url()) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)

    def test_many_starters_get_one_server(self, empty):
        failures = []

        def start():
            try:
                Cluster(empty.folder, durable=False).start()
            except EmbeddedError as error:
                failures.append(error)

        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert answers(empty)

    def test_it_starts_after_its_server_was_killed(self, cluster):
        cluster.start()
        kill_server(cluster)
        assert not cluster.is_running()
        cluster.start()
        assert answers(cluster)

    def test_a_stale_process_number_that_is_now_anothers_is_no_server(self, cluster):
        cluster.start()
        kill_server(cluster)
        (cluster.data / "postmaster.pid").write_text(f"{os.getpid()}\n{cluster.data}\n")
        assert not cluster.is_running()
        cluster.stop()
        cluster.start()
        assert answers(cluster)

    def test_variables_of_the_shell_do_not_steer_it(self, cluster, monkeypatch):
        for name, value in {
            "PGDATA": "/nonexistent",
            "PGPORT": "1",
            "LC_ALL": "xx_XX",
            "PGOPTIONS": "-c x=y",
        }.items():
            monkeypatch.setenv(name, value)
        cluster.start()
        monkeypatch.delenv("PGOPTIONS")
        assert answers(cluster)

    def test_it_is_utf8_in_code_point_order(self, cluster):
        cluster.start()
        with psycopg.connect(cluster.url()) as connection:
            row = connection.execute(
                "SELECT upper('ä'), 'Z' < 'a', current_setting('server_encoding')"
            ).fetchone()
        assert row == ("Ä", True, "UTF8")


class TestWhoMayReachIt:
    def test_only_the_owner_reads_what_is_secret(self, empty):
        cluster = empty
        cluster.start()
        assert mode(cluster.folder) == mode(cluster.data) == mode(cluster.socket_folder) == 0o700
        assert mode(cluster.folder / "passwords") == 0o700
        assert {mode(path) for path in (cluster.folder / "passwords").iterdir()} == {0o600}
        assert stat.S_IMODE((cluster.socket_folder / embedded.SOCKET_NAME).stat().st_mode) == 0o700

    def test_it_listens_on_no_network_and_asks_everybody_for_a_password(self, cluster):
        cluster.start()
        with psycopg.connect(cluster.url()) as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
            rules = connection.execute("SELECT DISTINCT type, auth_method FROM pg_hba_file_rules").fetchall()
        assert rules == [("local", "scram-sha-256")]

    def test_a_password_is_drawn_once(self, cluster):
        drawn = []
        threads = [threading.Thread(target=lambda: drawn.append(cluster.password("ada"))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(drawn)) == 1
        assert len(drawn[0]) == 32
        assert cluster.password("bob") != drawn[0]

    def test_it_has_a_session_of_its_own(self, cluster):
        cluster.start()
        pid = int((cluster.data / "postmaster.pid").read_text().split()[0])
        assert os.getsid(pid) != os.getsid(0), "a terminal's Ctrl-C would reach it"


class TestPlaces:
    def test_a_long_path_gets_its_socket_elsewhere(self, tmp_path):
        cluster = Cluster(tmp_path / ("long " * 20) / "it's, 100%", durable=False)
        cluster.start()
        try:
            elsewhere = cluster.socket_folder
            assert cluster.folder not in elsewhere.parents
            assert mode(elsewhere) == 0o700
            assert answers(cluster)
            cluster.stop()
            cluster.start()
            assert cluster.socket_folder == elsewhere
        finally:
            cluster.erase()
        assert not elsewhere.exists()

    def test_a_remembered_socket_folder_that_others_may_enter_is_not_used(self, tmp_path):
        cluster = Cluster(tmp_path / ("long" * 25), durable=False)
        cluster.prepare()
        first = cluster.socket_folder
        first.chmod(0o777)
        cluster.prepare()
        assert cluster.socket_folder != first
        first.rmdir()
        cluster.erase()

    def test_erase_leaves_what_it_did_not_make(self, cluster):
        cluster.start()
        (cluster.folder / "notes.txt").write_text("mine")
        cluster.erase()
        assert {path.name for path in cluster.folder.iterdir()} == {"notes.txt", "lock"}

    @needs_root
    def test_without_user_namespaces_nobody_runs_it(self, empty, monkeypatch):
        cluster = empty
        monkeypatch.setattr(embedded_user, "can_map_users", lambda: False)
        cluster.start()
        place = cluster.data.parent
        assert answers(cluster)
        owner = subprocess.run(["stat", "-c", "%U", cluster.data], capture_output=True, text=True, check=True)
        assert owner.stdout.strip() == "nobody"
        assert mode(cluster.data) == 0o700
        assert mode(cluster.folder) == 0o700
        assert place.stat().st_uid == 0, "who may write there could plant links for root to follow"
        cluster.stop()
        cluster.start()
        assert answers(cluster)
        cluster.erase()
        assert not place.exists()


class TestWhatIsWrongIsOneLine:
    def check(self, cluster, match):
        with pytest.raises(EmbeddedError, match=match) as caught:
            cluster.start()
        assert "\n" not in str(caught.value)

    def test_a_folder_that_can_not_be_made(self, tmp_path):
        (tmp_path / "file").touch()
        self.check(Cluster(tmp_path / "file" / "pg"), "Not a directory")

    def test_a_path_that_a_shell_would_read(self, tmp_path):
        self.check(Cluster(tmp_path / "$(touch x)"), "pg_ctl can't take")

    def test_no_wheel(self, cluster, monkeypatch):
        monkeypatch.setattr(embedded, "installation", lambda: None)
        self.check(cluster, "not installed")

    def test_a_server_that_does_not_start(self, cluster, monkeypatch):
        monkeypatch.setitem(embedded.SETTINGS, "shared_buffers", "many")
        self.check(cluster, 'pg_ctl failed: .*FATAL|invalid value for parameter "shared_buffers"')

    def test_data_of_another_version(self, cluster):
        cluster.start()
        cluster.stop()
        (cluster.data / "PG_VERSION").write_text("17\n")
        self.check(cluster, "PostgreSQL 17, not 18")
