"""`manage.py secret_scanning`: what a partner needs, and a sample that the demo believes."""

import io
import json

import httpx
import pytest
from django.core.management import CommandError, call_command

from tests import key_builders
from tests.api import calls
from tests.key_builders import verify
from tests.leak_builders import PATH


def run(*arguments):
    out = io.StringIO()
    call_command("secret_scanning", *arguments, stdout=out)
    return out.getvalue().strip()


@pytest.fixture
def demo(settings, tmp_path, monkeypatch):
    """A home such as the demo's, whose portal answers where the command sends to."""

    def post(_client, url, *, content, headers):
        assert url == settings.KEYSTEAD_BASE_URL + "/v1" + PATH
        given = {name.replace("-", "_"): value for name, value in headers.items() if name != "Content-Type"}
        answer = calls.Api(None).send("POST", PATH, raw=content, **given)
        return httpx.Response(answer.status_code, content=answer.content)

    monkeypatch.setattr(httpx.Client, "post", post)
    settings.KEYSTEAD_HOME = tmp_path
    settings.SECRET_SCANNING_KEYS = str(tmp_path / "secret-scanning" / "public.json")
    return tmp_path / "secret-scanning"


def sample(monkeypatch, text):
    monkeypatch.setattr("sys.stdin", io.StringIO(text + "\n"))
    return run("sample", "--url", "https://github.com/somebody/something")


def test_the_pattern_is_printed():
    assert run("pattern") == r"\bks_(?:in|cp|sv)_(?:live|test)_[0-9A-Za-z]{49}\b"


def test_a_sample_is_believed_and_kills_the_key(demo, monkeypatch, cast):
    made = key_builders.create(cast.acme, cast.alice)
    assert sample(monkeypatch, "ks_cp_live_nothing") == "false_positive"
    assert sample(monkeypatch, made.secret) == "true_positive"
    assert verify(made.secret, cast.acme) == "REVOKED"
    assert (demo / "sample.pem").stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in json.dumps((demo / "public.json").read_text())


def test_without_a_secret_nothing_is_sent(demo, monkeypatch):
    with pytest.raises(CommandError, match="standard input"):
        sample(monkeypatch, "")


@pytest.mark.parametrize("keys", ["", "https://partner.example/keys", "/etc/keystead/partner.json"])
def test_where_a_real_partner_is_believed_there_is_no_sample(demo, monkeypatch, settings, keys):
    settings.SECRET_SCANNING_KEYS = keys
    with pytest.raises(CommandError, match="for the demo"):
        sample(monkeypatch, "ks_cp_live_nothing")
    assert not demo.exists()
