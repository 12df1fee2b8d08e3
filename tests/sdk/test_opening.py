"""`keystead recipient` and `keystead open`: a sealed secret finds its way into the file, and nothing else does."""

import base64
import json
import os
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import standardwebhooks

from audit import tenancy
from keys import services
from keys.services import Created
from keys.services.auto_rotation import rotate_when_due, sealed_facts
from tests import builders, key_builders
from tests.clocks import later
from tests.sdk.test_scan import draw
from tests.sdk.test_sealed import ROTATION, seal
from tests.sdk.test_swap import held, put

WHSEC = "whsec_" + base64.b64encode(b"w" * 32).decode()


@dataclass
class Pair:
    public_key: str
    private: Path


@pytest.fixture
def pair(run, tmp_path):
    private = tmp_path / "recipient.key"
    done = run("recipient", "new", "--out", str(private), KEYSTEAD_KEY="", KEYSTEAD_URL="")
    assert done.returncode == 0, done.stderr
    return Pair(done.stdout.strip(), private)


@pytest.fixture
def machine(cast) -> Created:
    return key_builders.create(cast.acme, cast.alice)


@pytest.fixture
def file(tmp_path, machine):
    return put(tmp_path / ".env", machine.secret)


@pytest.fixture
def deliver(run, tmp_path, pair):
    """Hand over a signed webhook with a sealed secret."""
    whsec = tmp_path / "whsec"
    whsec.write_text(WHSEC + "\n")

    def deliver(secret, *arguments, rotation=ROTATION, act="rotation.started", signed_with=WHSEC, **members):
        sealed = base64.b64encode(seal(secret, pair, rotation)).decode()
        data = {
            "rotation": rotation,
            "sealed_secret": {"recipient": "rcp_a", "ciphertext": sealed},
            **members,
        }
        body = json.dumps({"type": act, "timestamp": "2027-01-31T12:00:00Z", "data": data})
        now = datetime.now(UTC)
        signature = standardwebhooks.Webhook(signed_with).sign("msg_1", now, body)
        headers = (
            "webhook-id: msg_1",
            f"webhook-timestamp:{int(now.timestamp())}",
            f"webhook-signature: {signature}",
        )
        flags = [flag for header in headers for flag in ("--header", header)]
        source = ("--private-key", str(pair.private), "--event", "-", "--webhook-secret-file", str(whsec))
        return run("open", *source, *flags, *arguments, given=body, KEYSTEAD_KEY="")

    return deliver


class TestRecipient:
    def test_the_private_half_is_its_owners_alone(self, run, pair):
        assert stat.S_IMODE(pair.private.stat().st_mode) == 0o600
        assert pair.private.read_text().startswith("-----BEGIN PRIVATE KEY-----")
        assert len(base64.b64decode(pair.public_key)) == 32

    def test_one_that_is_there_is_not_overwritten(self, run, pair):
        before = pair.private.read_bytes()
        assert run("recipient", "new", "--out", str(pair.private)).returncode == 2
        assert pair.private.read_bytes() == before
        link = pair.private.with_name("link")
        link.symlink_to(pair.private.with_name("elsewhere"))
        assert run("recipient", "new", "--out", str(link)).returncode == 2
        assert not link.exists()


class TestOpening:
    def test_a_delivered_secret_takes_the_files_place(self, deliver, file, client, machine, tmp_path):
        rotated = client.keys.rotate(machine.key.id)
        seen = tmp_path / "seen"
        done = deliver(rotated.secret, "--write-env", str(file), "--exec", f"touch {seen}")
        assert done.returncode == 0, done.stderr
        assert held(file) == rotated.secret
        assert seen.exists()
        assert rotated.secret[15:] not in done.stdout + done.stderr
        assert client.keys.verify(machine.secret), "its grace ends it"
        assert deliver(rotated.secret, "--write-env", str(file)).returncode == 0, "once or twice is the same"

    def test_and_the_old_one_can_be_retired(self, deliver, file, client, machine):
        rotated = client.keys.rotate(machine.key.id)
        done = deliver(rotated.secret, "--write-env", str(file), "--complete", rotation=rotated.rotation.id)
        assert done.returncode == 0, done.stderr
        assert client.keys.verify(machine.secret).code == "SECRET_RETIRED"

    def test_without_a_file_it_is_printed(self, deliver):
        made = draw()
        done = deliver(made)
        assert (done.returncode, done.stdout) == (0, made + "\n")

    def test_another_keys_secret_is_not_written(self, deliver, file, machine, presented):
        done = deliver(presented.secret, "--write-env", str(file))
        assert done.returncode == 2
        assert "no newer secret" in done.stderr
        assert held(file) == machine.secret

    def test_nor_an_older_one_nor_one_that_is_dead(self, deliver, file, client, machine):
        rotated = client.keys.rotate(machine.key.id)
        put(file, rotated.secret)
        assert deliver(machine.secret, "--write-env", str(file)).returncode == 2
        assert deliver(draw(), "--write-env", str(file)).returncode == 3
        assert held(file) == rotated.secret

    def test_what_is_not_signed_is_not_opened(self, run, deliver, pair, file):
        other = "whsec_" + base64.b64encode(os.urandom(32)).decode()
        done = deliver(draw(), signed_with=other)
        assert (done.returncode, done.stdout) == (4, "")
        assert "signature" in done.stderr
        unsigned = run("open", "--private-key", str(pair.private), "--event", "-", given="{}")
        assert unsigned.returncode == 2
        assert "--webhook-secret-file" in unsigned.stderr

    def test_an_event_of_another_kind(self, deliver):
        done = deliver(draw(), act="key.created")
        assert done.returncode == 2
        assert "no sealed secret" in done.stderr
        assert deliver(draw(), sealed_secret=None).returncode == 2
        assert deliver(draw(), sealed_secret={"recipient": 1}).returncode == 5

    def test_a_rotation_without_a_sealed_secret(self, run, client, machine, pair):
        rotated = client.keys.rotate(machine.key.id)
        done = run("open", "--private-key", str(pair.private), "--rotation", rotated.rotation.id)
        assert done.returncode == 2
        assert "no sealed secret" in done.stderr


class TestAutoRotation:
    """A key that the portal's worker rotated, from its webhook's facts or the API to the file."""

    @pytest.fixture
    def turned(self, cast, pair):
        with tenancy.within(cast.acme.id):
            member = builders.member(cast.alice, cast.acme)
            services.register_recipient(builders.unique("vault"), pair.public_key, actor=member)
        with later(hours=-13):
            made = key_builders.create(cast.acme, cast.alice, rotation_interval_days=1, auto_rotate=True)
        rotation = rotate_when_due(cast.acme.id, made.key.id)
        assert rotation is not None
        return made, rotation

    def test_from_the_api_into_the_file(self, run, turned, pair, tmp_path, client):
        made, rotation = turned
        file = put(tmp_path / "auto.env", made.secret)
        fetch = (
            "open",
            "--private-key",
            str(pair.private),
            "--rotation",
            rotation.id,
            "--write-env",
            str(file),
        )
        # The portal hands it out once. What is handed out is not lost to a failure.
        broken = run(*fetch, "--exec", "false")
        assert broken.returncode == 7, broken.stderr
        put(file, made.secret)
        done = run(*fetch, "--complete")
        assert done.returncode == 0, done.stderr
        assert client.keys.verify(held(file)).key.secret_version == 2
        assert client.keys.verify(made.secret).code == "SECRET_RETIRED"
        assert held(file)[15:] not in (tmp_path / "auto.env.keystead-lock").read_text()
        assert run(*fetch).returncode == 2, "and it is gone"

    def test_from_the_webhooks_facts(self, deliver, turned, tmp_path, client, cast, pair):
        made, rotation = turned
        file = put(tmp_path / "auto.env", made.secret)
        with tenancy.within(cast.acme.id):
            facts = sealed_facts(cast.acme.id, {"rotation": rotation.id})
        done = deliver(draw(), "--write-env", str(file), rotation=rotation.id, **facts)
        assert done.returncode == 0, done.stderr
        assert client.keys.verify(held(file)).key.secret_version == 2
