import hashlib
import hmac
import json
import time
import zlib
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keys import secret
from keys.errors import Malformed
from keys.secret import ALPHABET, Kind, Mode, redact

bounded = settings(max_examples=25, deadline=None, database=None)
KINDS = st.sampled_from(Kind)
MODES = st.sampled_from(Mode)
PEPPER = bytes(range(32))
KNOWN = [
    ("akp_svc_live_" + "0" * 43, "4Fahlp"),
    ("akp_ctl_test_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg", "2ka4p1"),
]


def fresh(kind=Kind.CONTROL_PLANE, mode=Mode.LIVE, brand="ks"):
    return secret.generate(brand, kind, mode)


class TestCheck:
    @pytest.mark.parametrize(("body", "expected"), KNOWN)
    def test_known_answers(self, body, expected):
        assert secret.check(body) == expected

    @bounded
    @given(st.text(max_size=80))
    def test_is_the_crc_in_base_62(self, body):
        number = 0
        for character in secret.check(body):
            number = number * 62 + ALPHABET.index(character)
        assert number == zlib.crc32(body.encode("utf-8", "surrogatepass"))
        assert len(secret.check(body)) == 6

    def test_pads(self):
        assert secret.check("") == "000000"


class TestGenerate:
    @bounded
    @given(KINDS, MODES)
    def test_parses_to_what_it_was_made_of(self, kind, mode):
        text = fresh(kind, mode)
        parsed = secret.parse(text, "ks")
        assert (parsed.text, parsed.brand, parsed.kind, parsed.mode) == (text, "ks", kind, mode)
        assert parsed.hint == secret.hint(text) == text[11:15]
        assert len(text) == 11 + 43 + 6

    def test_is_uniform_enough(self):
        drawn = "".join(fresh()[11:54] for _ in range(400))
        expected = len(drawn) / 62
        chi_squared = sum((drawn.count(c) - expected) ** 2 / expected for c in ALPHABET)
        # 61 degrees of freedom: beyond 150 once in 10^9; a biased `byte % 62` would be near 700.
        assert chi_squared < 150
        assert set(drawn) == set(ALPHABET)

    def test_never_twice(self):
        assert len({fresh() for _ in range(200)}) == 200

    @pytest.mark.parametrize("brand", ["", "k", "KS", "k_s", "a" * 9, "ks\n", "k."])
    def test_refuses_a_brand_that_breaks_the_form(self, brand):
        with pytest.raises(ValueError, match="brand"):
            fresh(brand=brand)


class TestParse:
    @bounded
    @given(st.integers(0, 59), st.sampled_from(ALPHABET + "_-. \0é"))
    def test_any_changed_character_is_malformed(self, at, character):
        text = fresh()
        changed = text[:at] + character + text[at + 1 :]
        if changed != text:
            with pytest.raises(Malformed):
                secret.parse(changed, "ks")

    def test_the_kind_and_the_mode_are_covered(self):
        text = fresh()
        for changed in (text.replace("_cp_", "_sv_"), text.replace("_live_", "_test_")):
            with pytest.raises(Malformed):
                secret.parse(changed, "ks")

    def test_another_brands_secret_is_malformed_here(self):
        with pytest.raises(Malformed):
            secret.parse(fresh(brand="other"), "ks")

    @pytest.mark.parametrize("text", ["", "\0", "\ud800" * 60, "ks_cp_live_", "\u0661" * 60])
    def test_garbage_is_malformed(self, text):
        with pytest.raises(Malformed) as caught:
            secret.parse(text, "ks")
        assert str(caught.value) == "This is not a key of ours."

    def test_the_huge_is_malformed(self):
        with pytest.raises(Malformed):
            secret.parse("ks_cp_live_" + "0" * 10_000_000, "ks")

    @pytest.mark.parametrize("around", [" {}", "{} ", "{}\n", "{}\0", "Bearer {}"])
    def test_nothing_may_stand_around_it(self, around):
        with pytest.raises(Malformed):
            secret.parse(around.format(fresh()), "ks")

    @bounded
    @given(st.text())
    def test_any_text_is_malformed(self, text):
        with pytest.raises(Malformed):
            secret.parse(text, "ks")

    def test_neither_repr_nor_error_shows_it(self):
        text = fresh()
        assert text[15:] not in repr(secret.parse(text, "ks"))
        with pytest.raises(Malformed) as caught:
            secret.parse(text[:-1], "ks")
        assert text[11:20] not in repr(caught.value)


class TestDigest:
    def test_is_hmac_sha_256_under_the_pepper(self):
        text = fresh()
        assert secret.digest(text, PEPPER) == hmac.new(PEPPER, text.encode(), hashlib.sha256).digest()
        assert secret.digest(text, PEPPER) != secret.digest(text, PEPPER[::-1])

    def test_refuses_a_pepper_that_was_not_set(self):
        with pytest.raises(ValueError, match="pepper"):
            secret.digest(fresh(), b"")


class TestDisplay:
    def test_shows_four_characters(self):
        assert secret.display("ks", Kind.INGESTION, Mode.TEST, "AbCd") == "ks_in_test_AbCd…"


class TestRedact:
    @bounded
    @given(st.text(max_size=20), st.text(max_size=20), KINDS, MODES, st.sampled_from(["ks", "acme", "x9"]))
    def test_leaves_the_display_form_in_any_text(self, before, after, kind, mode, brand):
        text = fresh(kind, mode, brand)
        shown = redact(before + text + after)
        assert text[-45:] not in shown
        assert secret.display(brand, kind, mode, secret.hint(text)) in shown
        assert redact(shown) == shown

    @pytest.mark.parametrize(
        "around",
        ["{}", '"%22{}%22', "a={}&b=1", "\\n{}\\n", "{}{}", "Bearer {}", "x{}x", "{}\0", "https://u:{}@h/"],
    )
    def test_whatever_stands_beside_it(self, around):
        text = fresh()
        shown = redact(around.replace("{}", text))
        assert text[15:25] not in shown
        assert text[11:15] + "…" in shown

    @pytest.mark.parametrize(
        "encode",
        [
            lambda text: text.replace("_", "%5F"),
            lambda text: text.replace("_", "%5f"),
            lambda text: quote(text.replace("_", "%5F")),
            lambda text: text.replace("_", "\\u005f"),
            lambda text: json.dumps(text.replace("_", "\\u005F")),
            lambda text: text.replace("_", "\\x5f"),
            lambda text: text.replace("_", "&#95;").replace("live", "LIVE"),
            lambda text: text.replace("_", "&#x5F;"),
            str.upper,
            str.lower,
            lambda text: text[:-20],
            lambda text: text[:-1] + ("0" if text[-1] != "0" else "1"),
        ],
    )
    def test_encoded_cut_off_or_mistyped(self, encode):
        text = fresh()
        shown = redact(f"key {encode(text)} end")
        assert text[15:25].lower() not in shown.lower()
        assert shown.endswith((" end", '" end'))

    @pytest.mark.parametrize(
        "text", ["ks_cp_live_AbCd…", "log_in_live_performance", "key_abcdefghij234567abcd", "", "\ud800"]
    )
    def test_leaves_the_rest_alone(self, text):
        assert redact(text) == text

    @pytest.mark.parametrize(
        "unit", ["_", "%25", "\\", "_in_live_", "a", "&#95;", "_cp_live_0000", "%5fcp%5flive%5f", "_in"]
    )
    def test_is_linear(self, unit):
        started = time.process_time()
        redact(unit * (200_000 // len(unit)))
        assert time.process_time() - started < 0.5
