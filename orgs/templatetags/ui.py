"""Words and marks that templates of every app share: times, initials, icons, menus, dialogs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from django import template
from django.template.loader import render_to_string
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

SOON, IMMINENT = timedelta(days=7), timedelta(days=1)
MINUTES_OF_HOUR, HOURS_OF_DAY, DAYS_OF_YEAR = 60, 24, 365
STATES = {
    "active": ("ok", "Active"),
    "rotating": ("acc", "Rotating"),
    "expiring": ("warn", "Expires soon"),
    "idle": ("warn", "Idle"),
    "disabled": ("off", "Disabled"),
    "expired": ("off", "Expired"),
    "revoked": ("bad", "Revoked"),
}
LEVELS = {"success": ("ok", "check-circle"), "warning": ("warn", "alert"), "error": ("bad", "alert")}


def span(at: datetime, now: datetime) -> str:
    """Return the time between two instants in its largest unit: `2m`, `18h`, `30d`; empty under a minute.

    Past spans are cut, coming ones rounded, so that a key made for 30 days says 30d a second later.
    """
    seconds = (now - at).total_seconds()
    minutes = _step(abs(seconds), 60, ahead=seconds < 0)
    hours = _step(minutes, MINUTES_OF_HOUR, ahead=seconds < 0)
    days = _step(hours, HOURS_OF_DAY, ahead=seconds < 0)
    if minutes < MINUTES_OF_HOUR:
        return f"{minutes}m" if minutes else ""
    if hours < HOURS_OF_DAY:
        return f"{hours}h"
    return f"{days}d" if days < 2 * DAYS_OF_YEAR else f"{days // DAYS_OF_YEAR}y"


def _step(amount: float, unit: int, *, ahead: bool) -> int:
    return int(amount / unit + (0.5 if ahead else 0))


def relative(at: datetime, now: datetime) -> str:
    """Return an instant as a person says it: `just now`, `2m ago`, `in 30d`."""
    length = span(at, now)
    if at > now:
        return f"in {length}" if length else "in a moment"
    return f"{length} ago" if length else "just now"


def urgency(expires_at: datetime | None, now: datetime) -> str:
    """Return an expiry's class: `bad` under a day, `warn` under seven, `off` if past or never, or empty."""
    if expires_at is None or expires_at <= now:
        return "off"
    if expires_at - now < IMMINENT:
        return "bad"
    return "warn" if expires_at - now < SOON else ""


@register.filter
def relative_time(at: datetime | None, now: datetime | None = None) -> str:
    """Return `2m ago` or `in 30d`; empty for None. The argument is the present, the clock's by default."""
    return relative(at, now or timezone.now()) if at else ""


@register.filter
def time_left(at: datetime | None, now: datetime | None = None) -> str:
    """Return what is left until an instant: `18h`; `expired` when past, `never` for None."""
    now = now or timezone.now()
    if at is None:
        return "never"
    return relative(at, now).removeprefix("in ") if at > now else "expired"


@register.filter
def expiry_class(at: datetime | None, now: datetime | None = None) -> str:
    """Return the state class of an expiry: `bad`, `warn`, `off` or empty."""
    return urgency(at, now or timezone.now())


@register.filter
def iso(at: datetime | None) -> str:
    """Return an aware instant as ISO 8601 in UTC to the second: `2026-11-20T14:22:07Z`; empty for None."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else ""


@register.filter
def exact(at: datetime | None) -> str:
    """Return an aware instant for people: `20 Nov 2026, 14:22:07 UTC`; empty for None."""
    return f"{at.astimezone(UTC):%-d %b %Y, %H:%M:%S} UTC" if at else ""


@register.filter
def initials(name: object) -> str:
    """Return at most two letters of a name or an e-mail address; `?` for nothing."""
    words = str(name or "").split("@")[0].replace(".", " ").replace("_", " ").replace("-", " ").split()
    letters = [word[0] for word in words if word[0].isalnum()]
    return "".join([letters[0], letters[-1]] if len(letters) > 1 else letters).upper() or "?"


@register.filter
def shortened(text: object, ends: int = 8) -> str:
    """Return a long identifier as its two ends: `6b01abf1…7d95ff42`; whole when short."""
    whole = str(text)
    return whole if len(whole) <= 2 * ends + 1 else f"{whole[:ends]}…{whole[-ends:]}"


@register.filter
def grouped(number: int) -> str:
    """Return a whole number as people read it: `1,234`."""
    return f"{number:,}"


@register.filter
def item(mapping: Mapping[object, object], key: object) -> object:
    """Return `mapping[key]`, or empty; for keys that a template only knows by a variable."""
    return mapping.get(key, "") if isinstance(mapping, Mapping) else ""


@register.filter
def state_class(state: object) -> str:
    """Return the colour class of a key's state; `off` for one not known."""
    return STATES.get(str(state), ("off", ""))[0]


@register.filter
def state_label(state: object) -> str:
    """Return the words of a key's state; the state itself, capitalized, for one not known."""
    return STATES.get(str(state), ("", str(state).replace("_", " ").capitalize()))[1]


@register.filter
def message_class(level: str) -> str:
    """Return the colour class of a message's level; empty for information."""
    return LEVELS.get(level, ("", "info"))[0]


@register.filter
def message_icon(level: str) -> str:
    """Return the icon of a message's level."""
    return LEVELS.get(level, ("", "info"))[1]


@register.simple_tag
def icon(name: str, classes: str = "") -> SafeString:
    """Return a decorative icon of the sprite."""
    return format_html(
        '<svg class="i {}" aria-hidden="true"><use href="{}#{}"/></svg>', classes, static("icons.svg"), name
    )


@register.simple_block_tag
def menu(content: str, label: str, align: str = "end", trigger: str = "dots") -> str:
    """Wrap links and buttons into a menu opened by an icon that `label` names for those who do not see it."""
    return render_to_string(
        "components/menu.html", {"content": content, "label": label, "align": align, "trigger": trigger}
    )


@register.simple_block_tag
def dialog(content: str, name: str, title: str) -> str:
    """Wrap content into a modal dialog with id `name`, opened by a link that has `data-dialog="#name"`."""
    return render_to_string("components/dialog.html", {"content": content, "name": name, "title": title})
