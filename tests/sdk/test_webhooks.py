"""A webhook is believed as the package `standardwebhooks` believes it."""

import base64
import json
import os
from datetime import UTC, datetime

import keystead
import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st
from keystead.webhooks import NotSigned, open_event

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
NOW = 1_800_000_000.0
BODY = json.dumps(
    {"type": "rotation.started", "timestamp": "2027-01-15T08:00:00Z", "data": {"key": "key_a"}}
).encode()


def signed(body=BODY, *, secret=SECRET, at=NOW, id_="msg_1"):
    signature = standardwebhooks.Webhook(secret).sign(id_, datetime.fromtimestamp(at, UTC), body.decode())
    return {"webhook-id": id_, "webhook-timestamp": str(int(at)), "webhook-signature": signature}


def test_the_specs_known_answer():
    headers = {
        "Webhook-Id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "Webhook-Timestamp": "1614265330",
        "Webhook-Signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    # Signed, and no event of a portal.
    with pytest.raises(keystead.UnreadableAnswer):
        open_event("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", headers, b'{"test": 2432232314}', now=1614265330)


def test_an_event():
    event = open_event(SECRET, signed(), BODY, now=NOW)
    assert (event.id, event.type, event.data["key"]) == ("msg_1", "rotation.started", "key_a")
    assert event.timestamp == datetime(2027, 1, 15, 8, tzinfo=UTC)


def test_while_the_secret_is_rotated_either_counts():
    other = "whsec_" + base64.b64encode(os.urandom(32)).decode()
    headers = signed()
    headers["webhook-signature"] = (
        f"v1a,xx {signed(secret=other)['webhook-signature']} {headers['webhook-signature']}"
    )
    assert open_event(SECRET, headers, BODY, now=NOW).id == "msg_1"
    assert open_event(other, headers, BODY, now=NOW).id == "msg_1"


@pytest.mark.parametrize("shift", [-301, 301, -1e9, 1e9])
def test_not_too_old_and_not_from_the_future(shift):
    with pytest.raises(NotSigned, match="old"):
        open_event(SECRET, signed(at=NOW + shift), BODY, now=NOW)
    assert open_event(SECRET, signed(at=NOW + shift / abs(shift) * 299), BODY, now=NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "msg_2"},
        {"webhook-timestamp": str(int(NOW) + 1)},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,é"},
        {"webhook-signature": "v2," + signed()["webhook-signature"][3:]},
    ],
)
def test_nothing_may_be_changed(change):
    with pytest.raises(NotSigned):
        open_event(SECRET, {**signed(), **change}, BODY, now=NOW)


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_nor_the_body(at, change):
    body = bytearray(BODY)
    body[at] ^= change
    with pytest.raises(NotSigned):
        open_event(SECRET, signed(), bytes(body), now=NOW)


def test_no_headers_and_no_secret():
    with pytest.raises(NotSigned):
        open_event(SECRET, {}, BODY, now=NOW)
    for bad in ("", "whsec_", "whsec_%%"):
        with pytest.raises(ValueError, match="whsec_"):
            open_event(bad, signed(), BODY, now=NOW)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"\x00", b'{"type": 1}', b'{"type": "x", "timestamp": "y"}']
)
def test_what_is_signed_and_no_event(body):
    with pytest.raises(keystead.UnreadableAnswer):
        open_event(SECRET, signed(body), body, now=NOW)
