"""The demo's traffic: its receiver takes what is signed and nothing else, over a certificate that clients accept."""

import ssl
import stat
import threading
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook

from portal.demo_traffic import certificate
from portal.demo_traffic.collectors import Count
from portal.demo_traffic.receiver import Receiver

SECRET, OTHER = "whsec_" + "A" * 43 + "=", "whsec_" + "B" * 43 + "="
BODY = '{"type": "rotation.started", "data": {}}'


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("receiver")
    public, private = certificate.pem(datetime.now(UTC))
    (folder / "certificate.pem").write_text(public)
    (folder / "private.pem").write_text(private)
    return folder


@pytest.fixture
def shown():
    return []


@pytest.fixture
def receiver(files, shown):
    made = Receiver(0, files / "private.pem", shown.append)
    made.start(SECRET)
    yield made
    made.stop()


def post(receiver, files, body=BODY, secret=SECRET, path="/events", at=None, **headers):
    at = at or datetime.now(UTC)
    signed = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", at, body),
    }
    request = urllib.request.Request(
        f"https://127.0.0.1:{receiver.server.server_address[1]}{path}",
        data=body.encode(),
        headers=signed | headers,
    )
    context = ssl.create_default_context(cafile=str(files / "certificate.pem"))
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as refused:
        refused.close()
        return refused.code


class TestTheReceiver:
    def test_a_signed_event_is_shown(self, receiver, files, shown):
        assert post(receiver, files) == 204
        assert shown == [{"type": "rotation.started", "data": {}}]

    @pytest.mark.parametrize(
        "forged",
        [
            {"secret": OTHER},
            {"at": datetime.now(UTC) - timedelta(hours=1)},
            {"path": "/elsewhere"},
            {"webhook-signature": "v1,AAAA"},
            {"webhook-id": "msg_2"},
        ],
        ids=["secret", "time", "path", "signature", "id"],
    )
    def test_anything_else_is_refused(self, receiver, files, shown, forged):
        assert post(receiver, files, **forged) == 400
        assert shown == []

    def test_a_client_that_keeps_silent_stops_nobody(self, receiver, files, shown):
        import socket

        with socket.create_connection(receiver.server.server_address):
            assert post(receiver, files) == 204


class TestTheCertificate:
    def test_it_is_made_anew_before_it_ends(self, files, tmp_path):
        now, public = datetime.now(UTC), files / "certificate.pem"
        assert certificate.is_fresh(public, now)
        assert not certificate.is_fresh(public, now + certificate.LIVES - timedelta(days=20))
        assert not certificate.is_fresh(tmp_path / "missing", now)
        (tmp_path / "broken").write_text("x")
        assert not certificate.is_fresh(tmp_path / "broken", now)

    def test_only_the_owner_reads_its_key(self, tmp_path):
        from portal.demo import Demo

        public = Demo(tmp_path, 8000).make_certificate()
        assert stat.S_IMODE((public.parent / "private.pem").stat().st_mode) == 0o600
        assert "PRIVATE" not in public.read_text()
        before = public.read_bytes()
        assert Demo(tmp_path, 8000).make_certificate().read_bytes() == before


def test_failures_are_counted_by_their_reason():
    count = Count()
    threads = [threading.Thread(target=lambda: [count.add("") for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count.told() == "2,000 calls, 0 calls failed"
    for failure in ("SECRET_RETIRED in x", "SECRET_RETIRED in x", "timeout in y"):
        count.add(failure)
    assert count.told() == "2,003 calls, 3 calls failed: 2 SECRET_RETIRED in x, 1 timeout in y"
