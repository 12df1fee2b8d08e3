"""Rotating the secret in a file: whatever happens, and whenever it is killed, the file holds a secret that works."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import keystead
import pytest
from keystead import Keystead, envfile
from keystead.journal import Journal
from keystead.place import Place
from keystead.swap import Swap, Swapped, Way

from tests import key_builders
from tests.sdk import dying

ROOT = Path(__file__).resolve().parents[2]
NAME = envfile.DEFAULT_NAME
CONTENT = "# the service\nA='1'\nexport {name}=\"{secret}\" # its own\r\nB=2"


@pytest.fixture
def machine(cast):
    """A key without any scope that rotates itself."""
    return key_builders.create(cast.acme, cast.alice)


def put(path: Path, secret: str) -> Path:
    path.write_bytes(CONTENT.format(name=NAME, secret=secret).encode())
    path.chmod(0o600)
    return path


@pytest.fixture
def file(tmp_path, machine):
    return put(tmp_path / ".env", machine.secret)


def held(path: Path) -> str:
    return envfile.secret_of(path.read_bytes(), [NAME])


class Run:
    """Swaps in this process, with what it is told to do in between."""

    def __init__(self, url: str, file: Path) -> None:
        self.url = url
        self.file = file
        self.waited: list[float] = []

    def connect(self, secret: str) -> Keystead:
        return Keystead(self.url, secret, retries=0)

    def wait(self, seconds: float) -> bool:
        self.waited.append(seconds)
        return False

    def __call__(self, **way) -> Swapped:
        with Place(self.file) as place, Journal(place) as journal:
            return Swap(place, journal, Way(**way), self.connect, self.wait).run()


@pytest.fixture
def swap(server, file):
    return Run(server.url, file)


def left_over(file: Path) -> list[str]:
    return sorted(
        each.name for each in file.parent.iterdir() if each.name not in {".env", ".env.keystead-lock"}
    )


class TestSwapping:
    def test_the_new_one_is_written_and_the_old_one_retired(self, swap, file, client, machine):
        done = swap()
        assert (done.key_id, done.version, done.is_complete) == (machine.key.id, 2, True)
        assert held(file) != machine.secret
        assert file.read_bytes() == CONTENT.format(name=NAME, secret=held(file)).encode()
        assert client.keys.verify(machine.secret).code == "SECRET_RETIRED"
        assert client.keys.verify(held(file)).key.secret_version == 2
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert left_over(file) == []
        assert client.rotations.get(done.rotation_id).status == "completed"

    def test_again_and_again(self, swap, file, client):
        assert [swap().version for _ in range(3)] == [2, 3, 4]
        assert client.keys.verify(held(file))

    def test_the_old_one_may_be_kept(self, swap, file, client, machine):
        done = swap(completes=False)
        assert not done.is_complete
        judged = client.keys.verify(machine.secret)
        assert judged.key.retiring
        assert client.keys.verify(held(file)).key.secret_version == 2
        assert client.rotations.get(done.rotation_id).mode == "staged"
        with pytest.raises(keystead.Conflict) as caught:
            swap()
        assert caught.value.code == "rotation_running"
        assert client.keys.verify(held(file)).key.secret_version == 2

    def test_with_a_grace(self, swap, client, machine):
        done = swap(request={"mode": "grace", "grace_seconds": 3600}, completes=False)
        assert client.keys.verify(machine.secret).key.accepted_until is not None
        assert client.rotations.get(done.rotation_id).mode == "grace"

    def test_the_command_runs_while_both_are_accepted(self, swap, file, tmp_path, client, machine):
        seen = tmp_path / "seen"
        swap(command=["sh", "-c", f"cp {file} {seen}"], settle_seconds=2)
        assert held(seen) == held(file)
        assert swap.waited == [2]
        assert client.keys.verify(machine.secret).code == "SECRET_RETIRED"

    def test_a_command_that_fails_retires_nothing_and_the_next_run_goes_on(self, swap, file, client, machine):
        with pytest.raises(keystead.Unfinished, match="false failed with 1"):
            swap(command=["false"])
        new = held(file)
        assert client.keys.verify(new)
        assert client.keys.verify(machine.secret)
        with pytest.raises(keystead.Unfinished, match="could not be run"):
            swap(command=["no-such-program"])
        assert swap(command=["true"]).version == 2
        assert held(file) == new
        assert client.keys.verify(machine.secret).code == "SECRET_RETIRED"

    def test_interrupted_while_it_settles(self, swap, client, machine, file):
        swap.wait = lambda _: True
        with pytest.raises(keystead.Unfinished, match="Interrupted"):
            swap(settle_seconds=60)
        assert client.keys.verify(machine.secret)
        assert client.keys.verify(held(file))
        assert swap().is_complete

    def test_another_line_that_changed_meanwhile_is_kept(self, swap, file):
        swap(command=["sh", "-c", f"echo >> {file}; echo C=3 >> {file}"])
        assert file.read_text().endswith("B=2\nC=3\n")

    def test_a_person_cancels_and_the_file_is_as_good_as_before(self, swap, file, client, machine):
        done = swap(completes=False)
        put(file, machine.secret)
        client.rotations.cancel(done.rotation_id)
        assert swap().version == 3
        assert client.keys.verify(held(file))


class TestLostAnswers:
    """The portal made a new secret, and nobody here ever read it."""

    @pytest.fixture
    def losing(self, monkeypatch):
        """Lose the answers to the first so many rotations."""
        real, left = httpx.Client.send, [0]

        def send(self, request, **options):
            answer = real(self, request, **options)
            if request.url.path == "/v1/keys/rotate" and left[0] > 0:
                left[0] -= 1
                answer.close()
                raise httpx.ReadTimeout("too late")
            return answer

        monkeypatch.setattr(httpx.Client, "send", send)
        return left

    @pytest.mark.parametrize("retries", [0, 2])
    def test_the_old_one_works_as_long_as_without_it(
        self, swap, file, client, machine, losing, retries, server
    ):
        swap.connect = lambda secret: Keystead(server.url, secret, retries=retries)
        losing[0] = 1
        with pytest.raises((keystead.Unavailable, keystead.SuccessorLost)):
            swap()
        assert held(file) == machine.secret
        judged = client.keys.verify(machine.secret)
        assert judged.key.accepted_until in {None, machine.key.expires_at}

    def test_when_a_person_cancels_it_goes_on(self, swap, file, client, machine, losing):
        losing[0] = 1
        with pytest.raises(keystead.Unavailable):
            swap()
        running = client.keys.get(machine.key.id).rotation
        with pytest.raises(keystead.SuccessorLost, match=running.id) as caught:
            swap()
        assert caught.value.rotation_id == running.id
        client.rotations.cancel(running.id)
        assert swap().version == 3
        assert client.keys.verify(held(file))
        assert client.keys.verify(machine.secret).code == "SECRET_RETIRED"

    def test_one_that_was_never_heard_is_begun_again(self, swap, file, client, monkeypatch):
        def refuse(*_, **__):
            raise httpx.ConnectError("nobody there")

        with monkeypatch.context() as patched:
            patched.setattr("keystead.client.Keys.rotate", lambda *_, **__: refuse())
            with pytest.raises(httpx.ConnectError):
                swap()
        assert swap().version == 2
        assert client.keys.verify(held(file))


class TestRefusing:
    """Nothing was asked, and nothing has changed."""

    def unchanged(self, client, machine, file):
        assert client.keys.get(machine.key.id).secrets[0].version == 1
        assert client.keys.verify(held(file)).key.secret_version == 1
        assert [name for name in left_over(file) if name.startswith(".env.")] == []

    def test_a_folder_that_can_not_be_written(self, swap, file, client, machine):
        if os.geteuid() == 0:
            pytest.skip("root writes anywhere")
        file.parent.chmod(0o500)
        with pytest.raises((keystead.ConfigurationError, OSError)):
            swap()
        file.parent.chmod(0o700)
        self.unchanged(client, machine, file)

    def test_a_file_that_can_not_be_replaced(self, swap, file, client, machine, monkeypatch):
        def busy(*_, **__):
            raise OSError(16, "Device or resource busy")

        monkeypatch.setattr("keystead.place.os.replace", busy)
        with pytest.raises(keystead.ConfigurationError, match="busy"):
            swap()
        self.unchanged(client, machine, file)

    def test_another_owner_who_would_lose_it(self, swap, file, client, machine, monkeypatch):
        def denied(_descriptor, user, _group):
            if user != -1:
                raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr("keystead.place.os.fchown", denied)
        os.chown(file, 12345, -1)
        with pytest.raises(keystead.ConfigurationError, match="another user"):
            swap()
        self.unchanged(client, machine, file)

    def test_a_second_name(self, swap, file, client, machine):
        (file.parent / "second").hardlink_to(file)
        with pytest.raises(keystead.ConfigurationError, match="several names"):
            swap()
        self.unchanged(client, machine, file)

    def test_no_file(self, swap, file, tmp_path):
        for path in (tmp_path / "none", tmp_path):
            swap.file = path
            with pytest.raises((keystead.ConfigurationError, OSError)):
                swap()
        os.mkfifo(tmp_path / "pipe")
        swap.file = tmp_path / "pipe"
        with pytest.raises(keystead.ConfigurationError, match="not a file"):
            swap()

    def test_a_key_that_may_not(self, swap, file, client, machine):
        client.keys.update(machine.key.id, may_rotate_itself=False)
        with pytest.raises(keystead.PermissionDenied) as caught:
            swap()
        assert caught.value.code == "self_rotation_refused"
        self.unchanged(client, machine, file)

    def test_a_secret_that_is_dead(self, swap, file, client, machine):
        client.keys.revoke(machine.key.id)
        with pytest.raises(keystead.AuthenticationError):
            swap()
        assert held(file) == machine.secret

    def test_one_at_a_time(self, swap, file, client, machine):
        with Place(file) as place, Journal(place), pytest.raises(keystead.Busy):
            swap()
        self.unchanged(client, machine, file)
        assert swap().version == 2


class TestFile:
    def test_a_link_is_followed_to_the_file(self, swap, file, tmp_path):
        shared = tmp_path / "shared"
        shared.mkdir()
        file.rename(shared / "real")
        file.symlink_to("shared/real")
        swap()
        assert file.is_symlink()
        assert held(shared / "real") == held(file)
        assert not [each.name for each in shared.iterdir() if each.name.endswith("-new")]

    def test_what_others_could_read_they_no_longer_can(self, swap, file):
        file.chmod(0o644)
        swap()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_its_owner_keeps_it(self, swap, file):
        if os.geteuid() != 0:
            pytest.skip("only root gives files away")
        os.chown(file, 12345, 23456)
        swap()
        found = file.stat()
        assert (found.st_uid, found.st_gid) == (12345, 23456)

    def test_no_secret_is_ever_in_the_journal(self, swap, file, machine):
        with pytest.raises(keystead.Unfinished):
            swap(command=["false"])
        journal = (file.parent / ".env.keystead-lock").read_text()
        assert "asked" in journal
        for secret in (machine.secret, held(file)):
            assert secret[15:] not in journal

    def test_what_an_attacker_left_beside_it_is_neither_read_nor_written(self, swap, file, tmp_path):
        target = tmp_path / "target"
        target.write_text("mine")
        (file.parent / ".env.keystead-new").symlink_to(target)
        swap()
        assert target.read_text() == "mine"
        (file.parent / ".env.keystead-lock").unlink()
        (file.parent / ".env.keystead-lock").symlink_to(target)
        with pytest.raises(OSError):  # noqa: PT011
            swap()
        assert target.read_text() == "mine"


class Zygote:
    """Forks processes that swap and die."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def __call__(self, url: str, file: Path, *, die_at: int = 0, torn: bool = False, **way) -> dict:
        case = {"url": url, "file": str(file), "die_at": die_at, "torn": torn, **way}
        self.process.stdin.write(json.dumps(case) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def zygote():
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'sdk' / 'src'}:{ROOT}"}
    process = subprocess.Popen(
        [sys.executable, str(Path(dying.__file__))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    with process:
        yield Zygote(process)
        process.stdin.close()


@pytest.mark.parametrize("torn", [False, True], ids=["before", "within"])
def test_killed_at_every_step_the_file_works(server, cast, client, zygote, tmp_path, torn):
    """And the next run goes on; only a secret that nobody ever wrote down is lost, and then the old one lives on."""
    steps = zygote(server.url, put(tmp_path / "whole", key_builders.create(cast.acme, cast.alice).secret))[
        "steps"
    ]
    assert steps.count("send") >= 4
    assert steps.count("replace") == 2
    lost = []
    for die_at in range(1, len(steps) + 1):
        if torn and steps[die_at - 1] not in {"write", "send"}:
            continue
        folder = tmp_path / str(die_at)
        folder.mkdir()
        machine = key_builders.create(cast.acme, cast.alice)
        file = put(folder / ".env", machine.secret)
        where = f"step {die_at}, {steps[die_at - 1]}"

        assert zygote(server.url, file, die_at=die_at, torn=torn, command=["true"])["killed"], where
        secret = held(file)
        assert client.keys.verify(secret), where
        assert file.read_bytes() == CONTENT.format(name=NAME, secret=secret).encode(), where
        for each in folder.iterdir():
            assert stat.S_IMODE(each.stat().st_mode) == 0o600, where

        again = zygote(server.url, file, command=["true"])
        judged = client.keys.verify(held(file))
        assert judged, where
        if again["code"] == dying.LOST:
            lost.append(die_at)
            # As long as without any rotation.
            assert judged.key.accepted_until in {None, machine.key.expires_at}, where
            assert machine.key.id in again["said"]
            continue
        assert again["code"] == dying.SWAPPED, (where, again)
        assert not judged.key.retiring, where
        assert judged.key.secret_version >= 2
        assert client.keys.verify(machine.secret).code == "SECRET_RETIRED", where
        assert left_over(file) == [], where
    asked = len(steps) - 1 - steps[::-1].index("replace")
    # From the request until its answer is on the disk.
    assert len(lost) <= 6
    assert all(die_at <= asked for die_at in lost)
