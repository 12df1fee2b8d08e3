"""The marks of a key, and the cells of an export."""

import io
from datetime import UTC, datetime, timedelta

import pytest

from keys import export, health
from keys.health import Badge, badges, idle_since
from keys.usage import Health

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def counted(*, calls=100, refused=0, regions=1, unused=()):
    """Return what was counted of a key's calls."""
    return Health(calls=calls, refused=refused, regions=regions, networks=1, unused_scopes=unused)


def marks(*, made=DAY, expires=30 * DAY, used=timedelta(), counts=health.NOTHING):
    """Return the badges of a key made and last used so long ago, that expires so far ahead."""
    return badges(
        counts=counts,
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


@pytest.mark.parametrize(
    ("counts", "found"),
    [
        (counted(), ()),
        (counted(refused=20), (Badge.MANY_REFUSALS,)),
        (counted(refused=19), ()),
        (counted(calls=200, refused=20), (Badge.MANY_REFUSALS,)),
        (counted(calls=201, refused=20), ()),
        (counted(calls=20, refused=20), (Badge.MANY_REFUSALS,)),
        (counted(regions=2), (Badge.SHARED,)),
        (counted(unused=("a:read",)), (Badge.UNUSED_SCOPES,)),
        (counted(calls=5, refused=5, unused=("a:read",)), ()),
        (counted(calls=0, unused=("a:read",)), ()),
        (
            counted(refused=50, regions=3, unused=("a:read",)),
            (Badge.MANY_REFUSALS, Badge.SHARED, Badge.UNUSED_SCOPES),
        ),
    ],
)
def test_marks_of_its_calls(counts, found):
    assert marks(counts=counts) == found


@pytest.mark.parametrize("badge", list(Badge))
def test_every_badge_is_explained(badge):
    counts = counted(refused=25, regions=3, unused=tuple(f"a-{number}:read" for number in range(7)))
    mark = health.mark(badge, counts, 93 * DAY)
    assert mark.words[0].isupper() or mark.words[0].isdigit()
    assert mark.about.endswith(".")


@pytest.mark.parametrize(
    ("badge", "words"),
    [
        (Badge.IDLE, "Idle 93 days"),
        (Badge.MANY_REFUSALS, "25 % refused"),
        (Badge.SHARED, "3 regions"),
        (Badge.UNUSED_SCOPES, "1 unused scope"),
    ],
)
def test_badges_in_words(badge, words):
    assert health.mark(badge, counted(refused=25, regions=3, unused=("a:read",)), 93 * DAY).words == words


def test_of_many_unused_scopes_a_few_are_named():
    counts = counted(unused=tuple(f"a-{number}:read" for number in range(7)))
    assert "a-4:read and 2 more" in health.mark(Badge.UNUSED_SCOPES, counts, DAY).about


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
