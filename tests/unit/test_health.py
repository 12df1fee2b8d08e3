"""The marks of a key, and the cells of an export."""

import io
from datetime import UTC, datetime, timedelta

import pytest

from keys import export
from keys.health import Badge, badges, idle_since

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def marks(*, made=DAY, expires=30 * DAY, used=timedelta()):
    """Return the badges of a key made and last used so long ago, that expires so far ahead."""
    return badges(
        created_at=NOW - made,
        expires_at=None if expires is None else NOW + expires,
        last_used_at=None if used is None else NOW - used,
        now=NOW,
    )


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ({}, ()),
        ({"expires": 7 * DAY}, (Badge.EXPIRES_SOON,)),
        ({"expires": 7 * DAY + timedelta(seconds=1)}, ()),
        ({"expires": None}, (Badge.NO_EXPIRY,)),
        ({"used": None}, (Badge.NEVER_USED,)),
        ({"made": 200 * DAY, "used": 90 * DAY}, (Badge.IDLE,)),
        ({"made": 200 * DAY, "used": 90 * DAY - timedelta(seconds=1)}, ()),
        ({"made": 90 * DAY, "used": None}, (Badge.IDLE, Badge.NEVER_USED)),
        (
            {"made": 90 * DAY, "used": None, "expires": DAY},
            (Badge.EXPIRES_SOON, Badge.IDLE, Badge.NEVER_USED),
        ),
    ],
)
def test_marks(key, found):
    assert marks(**key) == found


def test_idle_counts_from_the_last_use_else_from_the_making():
    assert idle_since(NOW - DAY, None) == NOW - DAY
    assert idle_since(NOW - DAY, NOW) == NOW


@pytest.mark.parametrize(
    "start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"]
)
def test_a_cell_that_would_run_gets_an_apostrophe(start):
    assert export.cell(f"{start}1+1") == f"'{start}1+1"


@pytest.mark.parametrize("text", ["", "plain", "a=b", "'=1", " =1"])
def test_any_other_cell_stays(text):
    assert export.cell(text) == text


def test_a_secret_in_a_cell_is_hidden():
    assert export.cell("x ks_cp_live_" + "Ab9" * 16) == "x ks_cp_live_Ab9A…"


def test_writes_header_and_rows_and_counts_them():
    file = io.StringIO(newline="")
    assert export.write(file, ["a", "b"], [["1", 'x"y'], ["=2", "l\nm"]]) == 2
    assert file.getvalue() == 'a,b\r\n1,"x""y"\r\n\'=2,"l\nm"\r\n'
