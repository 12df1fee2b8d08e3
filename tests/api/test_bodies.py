"""Bodies that can't be read, and what an error never says."""

import json
import logging

import pytest

from tests.api import calls
from tests.api.calls import is_problem

DEEP = 100_000


class TestUnreadable:
    @pytest.mark.parametrize(
        "raw",
        [
            b"{",
            b"{]",
            b"{'a': 1}",
            b'{"name": "a", "name": "b"}',
            b'{"tags": {"a": "b", "a": "c"}}',
            b'{"expires_in_days": NaN}',
            b'{"expires_in_days": Infinity}',
            b'{"expires_in_days": -Infinity}',
            b'{"expires_in_days": ' + b"9" * 5000 + b"}",
            b'{"name": "\xff"}',
            b'\xef\xbb\xbf{"name": "a"}',
            '{"name": "a"}'.encode("utf-16"),
            b'{"name": "a"} {}',
            b'{"name": "\x00"}',
            b"[" * DEEP,
            b"[" * DEEP + b"]" * DEEP,
            b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
            b"\x00",
        ],
    )
    @pytest.mark.parametrize("path", ["/api-keys", "/keys/verify", "/keys/rotate"])
    def test_is_400(self, api, path, raw):
        is_problem(api.send("POST", path, raw=raw), 400, "invalid_request")

    @pytest.mark.parametrize("raw", [b"[]", b'"x"', b"7", b"true", b"[{}]"])
    def test_what_is_no_object_is_422(self, api, raw):
        is_problem(api.send("POST", "/api-keys", raw=raw), 422, "invalid_value")
        is_problem(api.send("POST", "/keys/rotate", raw=raw), 422, "invalid_value")

    @pytest.mark.parametrize(
        "content_type",
        [
            "text/plain",
            "",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/json; charset=utf-16",
            "application/xml",
        ],
    )
    def test_another_media_type_is_415(self, api, content_type):
        answer = api.send("POST", "/keys/verify", {"secret": "x"}, content_type=content_type)
        is_problem(answer, 415, "unsupported_media_type")

    def test_a_charset_may_be_named(self, api):
        answer = api.send(
            "POST", "/keys/verify", {"secret": "x"}, content_type="Application/JSON; charset=UTF-8"
        )
        assert answer.status_code == 200

    def test_too_large_is_413(self, api):
        answer = api.post("/keys/verify", {"secret": "x" * 300_000})
        is_problem(answer, 413, "body_too_large")

    def test_a_key_is_asked_for_first(self):
        is_problem(calls.Api(None).send("POST", "/api-keys", raw=b"{"), 401, "unauthenticated")


class TestNothingIsRepeated:
    def test_no_submitted_value_in_any_422(self, api):
        marks = {}

        def mark(name):
            marks[name] = f"mark{len(marks)}x"
            return marks[name]

        body = {
            name: mark(name)
            for name in (
                "name",
                "kind",
                "environment",
                "scopes",
                "tags",
                "allowed_ips",
                "expires_at",
                "owner",
            )
        } | {"rotation_interval_days": mark("days"), "auto_rotate": mark("auto"), "rate_limit": mark("limit")}
        answer = api.post("/api-keys", body)
        assert answer.status_code == 422
        for name, text in marks.items():
            assert text not in answer.content.decode(), name

    def test_many_errors_are_cut_short(self, api):
        answer = api.post("/api-keys", {f"field{n}": n for n in range(5_000)})
        assert len(is_problem(answer, 422, "invalid_value")["errors"]) == 50

    def test_the_log_hides_secrets(self, api, caplog, capfd):
        from portal.logs import formatter

        with caplog.at_level(logging.INFO):
            api.get(f"/api-keys?q={api.secret}")
            api.get(f"/api-keys/{api.secret}")
            api.post("/keys/verify", {"secret": api.secret, api.secret: 1})
        lines = [formatter().format(record) for record in caplog.records]
        assert lines
        assert not [line for line in lines if api.secret in line]
        assert api.secret not in "".join(capfd.readouterr())

    def test_an_unknown_field_is_named_only_if_it_looks_like_one(self, api):
        answer = api.post("/api-keys", {"naem": 1, "<script>": 1, "x" * 65: 1})
        locations = {error["location"] for error in json.loads(answer.content)["errors"]}
        assert locations == {"name", "kind", "environment", "scopes", "naem", "…"}
