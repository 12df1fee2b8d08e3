"""`manage.py encryption_keys`: which key stored values are under, and replacing a key beside a running portal."""

import base64
import io
import re
import secrets
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from audit import encrypted, encryption, services, tenancy
from audit.errors import DecryptionFailed
from audit.models import Endpoint, EndpointSecret
from audit.webhooks import claims
from tests import builders
from tests.webhooks import acting

ROOT = Path(__file__).resolve().parent.parent.parent
URL = "https://1.1.1.1/"


def new_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


@pytest.fixture(autouse=True)
def _alone():
    """Nothing is stored by other tests, and nothing is left to them under keys that they do not know."""
    delete()
    yield
    delete()


def delete():
    with tenancy.everywhere(tenancy.Reason.COMMAND):
        Endpoint.objects.all().delete()


@pytest.fixture
def successor(settings) -> str:
    """A second key, in front, as after the second restart."""
    settings.ENCRYPTION_KEYS = (new_key(), *settings.ENCRYPTION_KEYS)
    return settings.ENCRYPTION_KEYS[0]


def run(*options):
    """Return the lines of the command's output."""
    out = io.StringIO()
    call_command("encryption_keys", *options, stdout=out)
    return out.getvalue().splitlines()


def tokens():
    with tenancy.everywhere(tenancy.Reason.COMMAND):
        return {row.pk: bytes(row.sealed) for row in EndpointSecret.objects.all()}


def secrets_of(made):
    with acting.within(made.endpoint):
        return claims.secrets_in_force(made.endpoint.id, timezone.now())


def write(made, token):
    with acting.within(made.endpoint):
        EndpointSecret.objects.filter(endpoint=made.endpoint).update(sealed=token)


def test_nothing_stored():
    assert run() == ["key 1: 0 values (newest)"]


def test_it_counts_every_organizations_values_and_changes_none(cast, settings):
    acting.made(cast, URL)
    acting.made(builders.cast(), URL)
    old = settings.ENCRYPTION_KEYS
    settings.ENCRYPTION_KEYS = (new_key(), *old, new_key())
    acting.made(cast, URL)
    before = tokens()
    assert run() == ["key 1: 1 values (newest)", "key 2: 2 values", "key 3: 0 values"]
    assert tokens() == before


def test_a_key_is_replaced(cast, successor, settings, monkeypatch):
    monkeypatch.setattr(encrypted, "PAGE", 2)
    settings.ENCRYPTION_KEYS = settings.ENCRYPTION_KEYS[::-1]
    casts = [cast, builders.cast()]
    made = [acting.made(each, URL) for each in casts for _ in range(3)]
    with acting.within(made[0].endpoint):
        services.rotate_endpoint_secret(made[0].endpoint, actor=cast.member(cast.alice))
    settings.ENCRYPTION_KEYS = settings.ENCRYPTION_KEYS[::-1]
    before = [secrets_of(each) for each in made]
    newest = acting.made(cast, URL)
    untouched = {pk: token for pk, token in tokens().items() if pk[0] == newest.endpoint.id}
    assert run("--renew") == ["encrypted anew: 7", "key 1: 8 values (newest)", "key 2: 0 values"]
    settings.ENCRYPTION_KEYS = (successor,)
    assert [secrets_of(each) for each in made] == before
    assert len(before[0]) == 2
    assert [each.secret in told for each, told in zip(made, before, strict=True)] == [True] * 6
    assert untouched.items() <= tokens().items()
    again = tokens()
    assert run("--renew") == ["encrypted anew: 0", "key 1: 8 values (newest)"]
    assert tokens() == again


@pytest.mark.usefixtures("successor")
class TestStoppedAndBeside:
    @pytest.fixture
    def made(self, cast, settings):
        keys = settings.ENCRYPTION_KEYS
        settings.ENCRYPTION_KEYS = keys[1:]
        found = acting.made(cast, URL)
        acting.made(cast, URL)
        settings.ENCRYPTION_KEYS = keys
        return found

    def test_stopped_half_way_it_goes_on_where_it_was(self, made):
        assert encrypted.renew(next(encrypted.values()))
        assert run() == ["key 1: 1 values (newest)", "key 2: 1 values"]
        assert secrets_of(made) == [made.secret]
        assert run("--renew")[:2] == ["encrypted anew: 1", "key 1: 2 values (newest)"]
        assert secrets_of(made) == [made.secret]

    def test_what_somebody_else_wrote_since_stays(self, made):
        read = list(encrypted.values())
        write(made, written := encryption.encrypt(b"of somebody else"))
        assert [encrypted.renew(value) for value in read].count(False) == 1
        assert tokens()[made.endpoint.id, 1] == written

    def test_two_at_once_change_a_value_once(self, made):
        one, other = list(encrypted.values()), list(encrypted.values())
        assert all(encrypted.renew(value) for value in one)
        after = tokens()
        assert not any(encrypted.renew(value) for value in other)
        assert tokens() == after
        assert secrets_of(made) == [made.secret]

    def test_what_is_gone_is_not_made_again(self, made):
        read = list(encrypted.values())
        delete()
        assert not any(encrypted.renew(value) for value in read)
        assert tokens() == {}

    def test_a_rotation_in_between_keeps_its_end(self, cast, made):
        read = list(encrypted.values())
        with acting.within(made.endpoint):
            second = services.rotate_endpoint_secret(made.endpoint, actor=cast.member(cast.alice))
        assert all(encrypted.renew(value) for value in read)
        with acting.within(made.endpoint):
            first, last = EndpointSecret.objects.filter(endpoint=made.endpoint).order_by("version")
        assert first.signs_until is not None
        assert last.signs_until is None
        assert secrets_of(made) == [second.secret, made.secret]


class TestWhatNoKeyDecrypts:
    def test_it_is_named_and_stays_and_the_rest_is_renewed(self, cast, settings):
        lost, sound = acting.made(cast, URL), acting.made(cast, URL)
        settings.ENCRYPTION_KEYS = (new_key(), *settings.ENCRYPTION_KEYS)
        write(lost, altered := encryption.encrypt(b"whsec_altered")[:-4])
        out = io.StringIO()
        with pytest.raises(CommandError) as caught:
            call_command("encryption_keys", "--renew", stdout=out)
        assert caught.value.returncode == 1
        assert str(caught.value).splitlines()[1:] == [f"secret 1 of webhook {lost.endpoint.id}"]
        assert out.getvalue().splitlines() == [
            "encrypted anew: 1",
            "key 1: 1 values (newest)",
            "key 2: 0 values",
            "no key: 1 values (these can't be decrypted)",
        ]
        assert tokens()[lost.endpoint.id, 1] == altered
        assert secrets_of(sound) == [sound.secret]

    def test_a_key_taken_out_too_early(self, cast, settings, monkeypatch):
        monkeypatch.setattr("audit.management.commands.encryption_keys.MOST_NAMED", 2)
        made = [acting.made(cast, URL) for _ in range(3)]
        settings.ENCRYPTION_KEYS = (new_key(),)
        for options in ([], ["--renew"]):
            with pytest.raises(CommandError, match=r"\nand 1 more$") as caught:
                run(*options)
            assert sum(each.endpoint.id in str(caught.value) for each in made) == 2
        with pytest.raises(DecryptionFailed):
            encrypted.renew(next(encrypted.values()))

    def test_nothing_secret_is_told(self, cast, settings):
        made = acting.made(cast, URL)
        settings.ENCRYPTION_KEYS = (new_key(), *settings.ENCRYPTION_KEYS)
        acting.made(cast, URL)
        write(made, b"nothing of ours")
        out = io.StringIO()
        with pytest.raises(CommandError) as caught:
            call_command("encryption_keys", "--renew", stdout=out)
        told = out.getvalue() + str(caught.value)
        hidden = [*settings.ENCRYPTION_KEYS, made.secret.removeprefix("whsec_"), "nothing of ours", "gAAAA"]
        assert not [each for each in hidden if each in told]


def test_every_module_that_encrypts_has_its_column_counted():
    """Another one that calls `encrypt` needs its column in `audit/encrypted.py`."""
    folders = [ROOT / each for each in ("audit", "orgs", "keys", "portal")]
    calls = re.compile(r"encryption\.encrypt\(|import encrypt\b|encryption import (?!encrypted)")
    found = {
        str(path.relative_to(ROOT))
        for folder in folders
        for path in folder.rglob("*.py")
        if calls.search(path.read_text())
    }
    assert found == {"audit/services/webhooks.py"}
