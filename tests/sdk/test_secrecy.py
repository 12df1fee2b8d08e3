"""No secret in what people read: reprs, messages, tracebacks with locals, logs."""

import asyncio
import dataclasses
import logging
import pickle
import traceback

import keystead
import pytest
from keystead import AsyncKeystead, Keystead, Secret

from tests.sdk.conftest import KEY
from tests.sdk.faulty import Planned, refused
from tests.sdk.test_faults import DRAFT, KEY_DOCUMENT, RAW, unreachable

FAULTS = (
    Planned(raw=b""),
    Planned(raw=b"garbage\r\n\r\n"),
    Planned(401, {"code": "invalid_token", "detail": RAW}),
    Planned(422, {"code": "invalid_value", "detail": RAW, "errors": [{"location": RAW, "message": RAW}]}),
    Planned(500, RAW.encode()),
    Planned(body=RAW.encode()),
    Planned(body={"valid": RAW, "code": RAW}),
    refused(RAW),
    refused("REVOKED"),
)


def told(error: BaseException) -> str:
    """Return all that an error tracker would keep, but for this file's own frames."""
    whole = traceback.TracebackException.from_exception(error, capture_locals=True)
    texts = [repr(error), str(error)]
    at = whole
    while at is not None:
        at.stack = traceback.StackSummary.from_list(
            [frame for frame in at.stack if not frame.filename.startswith(__file__)]
        )
        texts += list(at.format(chain=False))
        for frame in at.stack:
            texts += (frame.locals or {}).values()
        at = at.__cause__ or at.__context__
    return "\n".join(texts)


@pytest.mark.parametrize("planned", FAULTS)
def test_no_error_tells(faulty, planned):
    faulty.answers(planned)
    with Keystead(faulty.url, KEY, retries=0) as client, pytest.raises(keystead.KeysteadError) as caught:
        client.api_keys.validate(RAW)
    assert_silent(told(caught.value))


@pytest.mark.parametrize("planned", FAULTS)
def test_nor_awaited(faulty, planned):
    faulty.answers(planned)

    async def run():
        async with AsyncKeystead(faulty.url, KEY, retries=0) as client:
            await client.api_keys.validate(RAW)

    with pytest.raises(keystead.KeysteadError) as caught:
        asyncio.run(run())
    assert_silent(told(caught.value))


def test_nor_where_nobody_is():
    with Keystead(unreachable(), KEY, retries=0) as client, pytest.raises(keystead.Unavailable) as caught:
        client.api_keys.validate(RAW)
    assert_silent(told(caught.value))
    assert caught.value.__context__ is None


def test_nor_a_creation_that_can_not_be_read(faulty):
    faulty.answers(Planned(201, {"key": {}, "secret": RAW}))
    with Keystead(faulty.url, KEY) as client, pytest.raises(keystead.UnreadableAnswer) as caught:
        client.keys.create(**DRAFT)
    assert_silent(told(caught.value))


def test_no_repr_tells(faulty):
    faulty.answers(Planned(201, {"key": KEY_DOCUMENT, "secret": RAW}))
    with Keystead(faulty.url, KEY) as client:
        made = client.keys.create(**DRAFT)
        things = [client, client._settings, client.keys, client._transport, vars(client), made, [made.secret]]
        assert_silent(repr(things))
        assert_silent(repr(dataclasses.asdict(made)))
    question = keystead.question.ask(RAW, scopes=["a:b"])
    assert_silent(repr(question) + str(question) + repr(keystead.operations.verify(question)))
    assert_silent(repr(AsyncKeystead(faulty.url, KEY)))


def test_no_log_tells(faulty, caplog):
    with (
        caplog.at_level(logging.DEBUG),
        caplog.at_level(logging.DEBUG, logger="httpx"),
        Keystead(faulty.url, KEY) as client,
    ):
        client.api_keys.validate(RAW)
        faulty.answers(Planned(500))
        with pytest.raises(keystead.ServerError):
            client.keys.get("key_a")
    assert "verify" in caplog.text
    assert_silent(caplog.text)


def test_a_secret_is_a_string_that_hides():
    secret = Secret(RAW)
    assert secret == RAW
    assert (str(secret), f"{secret}") == (RAW, RAW)
    assert repr(secret) == "Secret(ks_cp_live_AAAA…)"
    assert repr(Secret("hunter2 is short")) == "Secret(…)"
    assert repr(Secret("")) == "Secret(…)"
    again = pickle.loads(pickle.dumps(secret))  # noqa: S301
    assert (again, type(again)) == (secret, Secret)


def assert_silent(text: str) -> None:
    # Neither whole nor more of it than its display form has.
    assert "A" * 6 not in text
    assert "K" * 6 not in text
