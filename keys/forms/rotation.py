"""The form of a rotation."""

import re
from datetime import timedelta
from typing import Any, Final

from django import forms

from keys.forms.fields import DependentForm, TokenMixin
from keys.rotation import DEFAULT_GRACE_SECONDS, MAX_GRACE_SECONDS, Mode

HOUR: Final = 3_600
CUSTOM: Final = "custom"
UNITS: Final = ((str(HOUR), "hours"), (str(24 * HOUR), "days"))
_NUMBER: Final = re.compile(r"[0-9]{1,7}")
GRACES: Final = (
    (str(HOUR), "1 hour"),
    (str(8 * HOUR), "8 hours"),
    (str(DEFAULT_GRACE_SECONDS), "24 hours (default)"),
    (str(3 * 24 * HOUR), "3 days"),
    (str(7 * 24 * HOUR), "7 days"),
    (str(MAX_GRACE_SECONDS), "30 days"),
    (CUSTOM, "Another time"),
)
MODE_CARDS: Final = {
    Mode.GRACE.value: {
        "icon": "clock",
        "text": "Both secrets work for a while. Replace the old one everywhere, without downtime.",
    },
    Mode.IMMEDIATE.value: {
        "icon": "ban",
        "text": "The old secret is refused at once. For one that leaked, or that nothing uses yet.",
    },
}


class RotateForm(TokenMixin, DependentForm):
    mode = forms.ChoiceField(
        label="The old secret",
        choices=[(Mode.GRACE.value, "Lives on for a grace"), (Mode.IMMEDIATE.value, "Stops at once")],
        widget=forms.RadioSelect,
        initial=Mode.GRACE.value,
    )
    grace = forms.ChoiceField(
        label="Grace",
        choices=GRACES,
        widget=forms.RadioSelect,
        initial=str(DEFAULT_GRACE_SECONDS),
        required=False,
        help_text="How long the old secret is still accepted; never past its own expiry.",
    )
    amount = forms.IntegerField(label="How long", required=False, min_value=1, max_value=1_000_000)
    unit = forms.ChoiceField(
        label="Unit",
        choices=UNITS,
        required=False,
    )
    version = forms.IntegerField(widget=forms.HiddenInput, required=False, min_value=1)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        is_custom = cleaned.get("mode") == Mode.GRACE and cleaned.get("grace") == CUSTOM
        self.demand("amount", "Say how long.", is_needed=is_custom)
        return cleaned

    @property
    def mode_chosen(self) -> Mode:
        """The mode that is ticked."""
        return Mode.IMMEDIATE if self["mode"].value() == Mode.IMMEDIATE else Mode.GRACE

    @property
    def grace_seconds(self) -> int | None:
        """The grace that was asked for; None with `immediate`, and where nothing that counts was chosen."""
        if self.mode_chosen is Mode.IMMEDIATE:
            return None
        value = self["grace"].value()
        if value == CUSTOM:
            amount, unit = str(self["amount"].value() or ""), str(self["unit"].value() or HOUR)
            return int(amount) * int(unit) if _NUMBER.fullmatch(amount) and unit in dict(UNITS) else None
        return int(value) if value in dict(GRACES) else None

    @property
    def grace_shown(self) -> timedelta:
        """The length to draw, within the bounds of a grace."""
        if self.mode_chosen is Mode.IMMEDIATE:
            return timedelta(0)
        seconds = DEFAULT_GRACE_SECONDS if self.grace_seconds is None else self.grace_seconds
        return timedelta(seconds=min(max(seconds, 1), MAX_GRACE_SECONDS))
