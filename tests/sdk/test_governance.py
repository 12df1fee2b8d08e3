"""The digest of planned parameters: what every implementation of RFC 8785 gives."""

import hashlib
import math
import struct

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st
from keystead.governance import canonical, digest

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
BITS = st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("d", struct.pack("Q", bits))[0])
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53) + 1, 2**53 - 1),
    FLOATS,
    st.text(st.characters(blacklist_categories=["Cs"])),
)
NAMES = st.text(st.characters(blacklist_categories=["Cs"]), max_size=5)
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4)
)


@given(VALUES)
@example({"\U0001f600": 1, "\ufb33": 2, "é": 3, "\r": 4, "1": 5, "": 6, "</script>": 7})
@example([1e21, 1e20, 123456789012345680000.0, 1e-6, 1e-7, -0.0, 5e-324, 1.7976931348623157e308, 100.0])
def test_it_is_the_canonical_form(value):
    assert canonical(value) == rfc8785.dumps(value)
    assert digest(value) == hashlib.sha256(rfc8785.dumps(value)).hexdigest()


@given(BITS.filter(math.isfinite))
def test_numbers_of_any_bits(number):
    assert canonical(number) == rfc8785.dumps(number)


@pytest.mark.parametrize(
    "bad", [2**53, -(2**53), float("inf"), float("nan"), "\ud800", ["a", {"b": "\udfff"}]]
)
def test_what_has_no_form_has_no_digest(bad):
    with pytest.raises(ValueError):  # noqa: PT011
        digest(bad)


@pytest.mark.parametrize("bad", [b"x", {1: 2}, object(), {1, 2}, [1, {"a": b""}]])
def test_what_json_has_not(bad):
    with pytest.raises(TypeError):
        digest(bad)


def test_tuples_are_lists():
    assert digest({"a": (1, 2)}) == digest({"a": [1, 2]})
