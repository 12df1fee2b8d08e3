"""Receivers that are slow, huge, hostile or wrong: one attempt, fifteen seconds, and little of it kept."""

import gzip
import time

import pytest

from audit import checks
from audit.webhooks import sending
from tests import receiver
from tests.webhooks import acting

pytestmark = pytest.mark.usefixtures("operator")


@pytest.fixture
def attempt(cast, hooks):
    """Deliver one entry to the receiver with a script, and return the attempt as it was recorded."""

    def tried(script=None, *, host=receiver.NAME, url=None):
        if script is not None:
            hooks.scripts["/hook"] = script
        made = acting.made(cast, url or hooks.url(host=host))
        acting.cause(cast.acme)
        acting.deliver()
        (found,) = acting.attempts(made.endpoint)
        return found

    return tried


@pytest.fixture
def brief(monkeypatch):
    monkeypatch.setattr(sending, "TIMEOUT_SECONDS", 1.0)


def start(handler, *headers):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"".join(headers) + b"\r\n")


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_alone_counts(attempt, status):
    assert attempt((status, {}, b"")).outcome == "delivered"


@pytest.mark.parametrize("status", [400, 401, 404, 409, 429, 500, 503, 599])
def test_nothing_else_does(attempt, status):
    found = attempt((status, {}, b"no"))
    assert (found.outcome, found.status) == ("refused", status)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(attempt, hooks, status):
    found = attempt((status, {"Location": hooks.url("/elsewhere")}, b""))
    assert (found.outcome, found.status) == ("redirected", status)
    assert [got.path for got in hooks.got] == ["/hook"]


def test_a_certificate_for_another_name(attempt, hooks, names):
    names["other.example.com"] = ["127.0.0.1"]
    found = attempt(host="other.example.com")
    assert (found.outcome, found.status) == ("tls_failed", None)
    assert "certificate does not fit" in found.detail
    assert hooks.names == ["other.example.com"]
    assert hooks.got == []


def test_a_certificate_of_nobody_trusted(attempt, hooks, settings):
    settings.WEBHOOK_CA_FILE = ""
    assert attempt().outcome == "tls_failed"
    assert hooks.got == []


def test_an_address_with_a_certificate_for_it(attempt, hooks):
    assert attempt(host="127.0.0.1").outcome == "delivered"
    assert hooks.got[0].headers["host"] == f"127.0.0.1:{hooks.port}"


@pytest.mark.timed
def test_no_tls_at_all(attempt, settings):
    with receiver.silent() as port:
        settings.WEBHOOK_PORTS = frozenset({port})
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(sending, "TIMEOUT_SECONDS", 0.7)
            found = attempt(url=f"https://{receiver.NAME}:{port}/")
    assert found.outcome == "timed_out"
    assert found.duration_ms < 2000


def test_nobody_listens(attempt, settings):
    with receiver.silent() as port:
        pass
    settings.WEBHOOK_PORTS = frozenset({port})
    found = attempt(url=f"https://{receiver.NAME}:{port}/")
    assert (found.outcome, found.detail) == ("unreachable", "The connection was refused.")


def test_nothing_of_the_environment_counts(attempt, hooks, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")
    assert attempt().outcome == "delivered"


def test_cookies_of_one_receiver_reach_no_other(attempt, hooks):
    attempt((200, {"Set-Cookie": "session=1; Path=/"}, b""))
    attempt()
    assert len(hooks.got) == 3
    assert not any("cookie" in got.headers for got in hooks.got)


@pytest.mark.timed
@pytest.mark.usefixtures("brief")
class TestSlow:
    def test_an_answer_that_never_begins(self, attempt):
        found = attempt(lambda _: time.sleep(3))
        assert (found.outcome, found.status) == ("timed_out", None)
        assert 900 <= found.duration_ms < 2000

    def test_an_answer_that_drips(self, attempt):
        def drip(handler):
            start(handler, b"Content-Length: 1000\r\n")
            for _ in range(30):
                handler.wfile.write(b"x")
                handler.wfile.flush()
                time.sleep(0.1)

        assert attempt(drip).outcome == "timed_out"

    def test_headers_that_drip(self, attempt):
        def drip(handler):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for i in range(30):
                handler.wfile.write(b"X-%d: 1\r\n" % i)
                handler.wfile.flush()
                time.sleep(0.1)

        assert attempt(drip).outcome == "timed_out"

    def test_interim_answers_without_end(self, attempt):
        def flood(handler):
            until = time.monotonic() + 3
            while time.monotonic() < until:
                handler.wfile.write(b"HTTP/1.1 102 Processing\r\n\r\n")
                time.sleep(0.01)

        assert attempt(flood).outcome in {"timed_out", "broken_off"}


class TestHuge:
    def test_an_answer_without_end_is_cut(self, attempt):
        sent = []

        def flood(handler):
            start(handler)
            sent.extend(handler.wfile.write(b"x" * 10_000) for _ in range(4000))

        found = attempt(flood)
        assert (found.outcome, found.status, found.text) == ("delivered", 200, "x" * 1024)
        assert sum(sent) < 20_000_000

    def test_an_answer_in_single_bytes_is_cut_sooner(self, attempt):
        """Reading it all would take seconds of the one loop that makes everybody's attempts."""
        sent = []

        def crumbs(handler):
            start(handler, b"Transfer-Encoding: chunked\r\n")
            sent.extend(handler.wfile.write(b"1\r\nx\r\n" * 1000) for _ in range(4000))

        found = attempt(crumbs)
        assert (found.outcome, found.status, found.text) == ("delivered", 200, "x" * 512)
        assert sum(sent) < 20_000_000

    def test_so_are_interim_answers(self, attempt):
        def flood(handler):
            for _ in range(100_000):
                handler.wfile.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)

        found = attempt(flood)
        assert (found.outcome, found.status) == ("broken_off", None)
        assert found.duration_ms < 10_000

    def test_a_packed_answer_is_not_unpacked(self, attempt):
        bomb = gzip.compress(b"0" * 50_000_000)
        found = attempt((200, {"Content-Encoding": "gzip"}, bomb))
        assert found.outcome == "delivered"
        assert "000000" not in found.text

    def test_headers_without_end(self, attempt):
        def flood(handler):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for i in range(5000):
                handler.wfile.write(b"X-%d: %s\r\n" % (i, b"y" * 1000))

        assert attempt(flood).outcome == "broken_off"

    @pytest.mark.parametrize(
        "answer",
        [
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"HTTP/1.1 2xx OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"",
        ],
    )
    def test_what_is_no_answer(self, attempt, answer):
        def say(handler):
            handler.wfile.write(answer)
            handler.close_connection = True

        assert attempt(say).outcome == "broken_off"


def test_a_kilobyte_of_text_is_kept_without_control_characters(attempt):
    found = attempt((500, {}, "é\x1b[31mred\x00\u202eeman\nline\t".encode() + b"\xff\xfe" + b"z" * 5000))
    assert len(found.text.encode()) <= 3 * 1024
    assert found.text.startswith("é\N{REPLACEMENT CHARACTER}[31mred")
    assert not set(found.text) & set("\x1b\x00\u202e")
    assert "\nline\t" in found.text


def test_authorities_that_cannot_be_read_stop_the_start(settings):
    assert checks.check_webhook_authorities(None) == []
    settings.WEBHOOK_CA_FILE = "/nonexistent/ca.pem"
    (found,) = checks.check_webhook_authorities(None)
    assert found.id == "audit.E004"


def test_a_fault_of_this_server_is_no_fault_of_the_receiver(attempt, hooks, settings, caplog):
    settings.WEBHOOK_CA_FILE = "/nonexistent/ca.pem"
    found = attempt()
    assert (found.outcome, found.detail) == ("not_built", "A fault of this server: nothing was sent.")
    assert "could not be sent" in caplog.text
