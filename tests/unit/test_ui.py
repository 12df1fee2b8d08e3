"""What templates say about time, people and states."""

import math
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from orgs.templatetags import ui

NOW = datetime(2026, 11, 20, 14, 22, 7, tzinfo=UTC)
ROOT = Path(__file__).parents[2]


class TestRelative:
    @pytest.mark.parametrize(
        ("ago", "words"),
        [
            (timedelta(0), "just now"),
            (timedelta(seconds=59), "just now"),
            (timedelta(minutes=2, seconds=59), "2m ago"),
            (timedelta(minutes=59, seconds=59), "59m ago"),
            (timedelta(hours=23, minutes=59), "23h ago"),
            (timedelta(days=94, hours=23), "94d ago"),
            (timedelta(days=730), "2y ago"),
        ],
    )
    def test_past_is_cut(self, ago, words):
        assert ui.relative(NOW - ago, NOW) == words

    @pytest.mark.parametrize(
        ("ahead", "words"),
        [
            (timedelta(seconds=20), "in a moment"),
            (timedelta(minutes=59, seconds=40), "in 1h"),
            (timedelta(hours=17, minutes=45), "in 18h"),
            (timedelta(days=30) - timedelta(seconds=1), "in 30d"),
            (timedelta(hours=23, minutes=59), "in 1d"),
        ],
    )
    def test_future_is_rounded(self, ahead, words):
        assert ui.relative(NOW + ahead, NOW) == words

    def test_nothing_is_empty(self):
        assert ui.relative_time(None) == ""


class TestExpiry:
    @pytest.mark.parametrize(
        ("left", "words", "css"),
        [
            (timedelta(hours=23), "23h", "bad"),
            (timedelta(days=1), "1d", "warn"),
            (timedelta(days=7) - timedelta(seconds=1), "7d", "warn"),
            (timedelta(days=7), "7d", ""),
            (timedelta(0), "expired", "off"),
            (-timedelta(days=3), "expired", "off"),
        ],
    )
    def test_amber_under_seven_days_red_under_one(self, left, words, css):
        assert (ui.time_left(NOW + left, NOW), ui.expiry_class(NOW + left, NOW)) == (words, css)

    def test_never(self):
        assert (ui.time_left(None, NOW), ui.expiry_class(None, NOW)) == ("never", "off")


class TestWords:
    def test_iso_is_utc_to_the_second(self):
        local = datetime(2026, 11, 20, 17, 22, 7, 999, tzinfo=timezone(timedelta(hours=3)))
        assert ui.iso(local) == "2026-11-20T14:22:07Z"
        assert ui.exact(local) == "20 Nov 2026, 14:22:07 UTC"

    @pytest.mark.parametrize(
        ("name", "letters"),
        [
            ("Alice Larsen", "AL"),
            ("alice", "A"),
            ("bob.okafor@northline.example", "BO"),
            ("Anna Maria de la Cruz", "AC"),
            ("مريم الحسن", "ما"),
            ("<script>", "?"),
            ("", "?"),
            (None, "?"),
        ],
    )
    def test_initials(self, name, letters):
        assert ui.initials(name) == letters

    def test_shortened_keeps_both_ends(self):
        assert ui.shortened("6b01abf1" + "0" * 40 + "7d95ff42") == "6b01abf1…7d95ff42"
        assert ui.shortened("short") == "short"

    def test_a_state_not_known_is_said_as_it_is(self):
        assert (ui.state_class("revoked"), ui.state_label("revoked")) == ("bad", "Revoked")
        assert (ui.state_class("on_hold"), ui.state_label("on_hold")) == ("off", "On hold")


TOKENS = dict(re.findall(r"--([\w-]+): light-dark\((.+)\);", (ROOT / "static/css/tokens.css").read_text()))


def luminance(colour: str) -> float:
    """WCAG 2 relative luminance of `#fff` or `oklch(L% C H)` (CSS Color 4, §9 and §10)."""
    if colour == "#fff":
        return 1.0
    lightness, chroma, hue = (float(part.rstrip("%")) for part in re.findall(r"[\d.]+%?", colour))
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    ok = lightness / 100
    long = (ok + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (ok - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (ok - 0.0894841775 * a - 1.2914855480 * b) ** 3
    red = 4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short
    green = -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short
    blue = -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short
    red, green, blue = (min(max(channel, 0), 1) for channel in (red, green, blue))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(front: str, back: str, theme: int) -> float:
    shades = [luminance(re.split(r",\s*", TOKENS[name])[theme]) for name in (front, back)]
    return (max(shades) + 0.05) / (min(shades) + 0.05)


PLAIN = ["paper", "raised", "sunken", "hover"]
READ = [
    (ink, back) for ink in ["ink", "ink-2", "ink-3", "accent", "ok", "warn", "bad", "prod"] for back in PLAIN
]
READ += [(state, f"{state}-soft") for state in ["accent", "ok", "warn", "bad", "prod"]]
READ += [("ink", f"{state}-soft") for state in ["accent", "ok", "warn", "bad", "prod"]]
READ += [
    ("accent-ink", "accent"),
    ("accent-ink", "accent-strong"),
    ("bad-ink", "bad"),
    ("bad-ink", "bad-strong"),
]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
class TestContrast:
    @pytest.mark.parametrize(("front", "back"), READ)
    def test_text_is_aa(self, front, back, theme):
        assert contrast(front, back, theme) >= 4.5

    @pytest.mark.parametrize("back", PLAIN)
    def test_the_edge_of_a_field_is_seen(self, back, theme):
        assert contrast("line-field", back, theme) >= 3


def test_every_icon_a_template_names_is_drawn():
    drawn = set(re.findall(r'<symbol id="([^"]+)"', (ROOT / "static/icons.svg").read_text()))
    named = {
        name
        for path in (ROOT / "templates").rglob("*.html")
        for name in re.findall(r'{% icon "([^"]+)"', path.read_text())
    }
    assert named
    assert named <= drawn


def test_no_template_carries_what_the_csp_forbids():
    forbidden = re.compile(r'\sstyle="|\son\w+="|<script(?![^>]*\ssrc=)|<style|javascript:|hx-on')
    for path in (ROOT / "templates").rglob("*.html"):
        assert not forbidden.search(path.read_text()), path
