"""The form of a rotation."""

import re
from datetime import timedelta
from typing import Any, Final

from django import forms

from keys.forms.fields import DependentForm, TokenMixin
from keys.rotation import (
    DEFAULT_DEADLINE_SECONDS,
    DEFAULT_GRACE_SECONDS,
    MAX_GRACE_SECONDS,
    MAX_QUIET_SECONDS,
    Mode,
)

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
DEADLINES: Final = (
    (str(24 * HOUR), "1 day"),
    (str(3 * 24 * HOUR), "3 days"),
    (str(DEFAULT_DEADLINE_SECONDS), "7 days (default)"),
    (str(14 * 24 * HOUR), "14 days"),
    (str(30 * 24 * HOUR), "30 days"),
)
MINUTE: Final = 60
MODE_CARDS: Final = {
    Mode.GRACE.value: {
        "icon": "clock",
        "text": "Both secrets work for a while. Replace the old one everywhere, without downtime.",
    },
    Mode.STAGED.value: {
        "icon": "layers",
        "text": "Region by region. Both work until live traffic shows that every one has moved.",
    },
    Mode.IMMEDIATE.value: {
        "icon": "ban",
        "text": "The old secret is refused at once. For one that leaked, or that nothing uses yet.",
    },
}


class TargetsField(forms.CharField):
    """One region a line: a list of names. A name may hold spaces and commas."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            **{"required": False, "max_length": 8_000, "widget": forms.Textarea({"rows": 5}), **options}
        )

    def clean(self, value: Any) -> list[str]:
        lines = [line.strip() for line in str(super().clean(value)).splitlines()]
        return [line for line in lines if line]

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value


class EndForm(forms.Form):
    """Whoever ends a rotation although somebody would fail says that they know."""

    is_known = forms.BooleanField(label="I know that their calls fail from then on")


class RotateForm(TokenMixin, DependentForm):
    mode = forms.ChoiceField(
        label="The old secret",
        choices=[
            (Mode.GRACE.value, "Lives on for a grace"),
            (Mode.STAGED.value, "Stops when all have moved"),
            (Mode.IMMEDIATE.value, "Stops at once"),
        ],
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
    targets = TargetsField(
        label="Targets",
        help_text="One region per line, as your verifiers name it in their calls. Each must move.",
    )
    quiet = forms.IntegerField(
        label="Quiet time, in minutes",
        required=False,
        min_value=1,
        max_value=MAX_QUIET_SECONDS // MINUTE,
        initial=10,
        help_text="How long nobody may have used the old secret before it is retired.",
    )
    deadline = forms.ChoiceField(
        label="Deadline",
        choices=DEADLINES,
        required=False,
        initial=str(DEFAULT_DEADLINE_SECONDS),
        help_text="What has not moved by then is reported as overdue.",
    )
    version = forms.IntegerField(widget=forms.HiddenInput, required=False, min_value=1)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        is_custom = cleaned.get("mode") == Mode.GRACE and cleaned.get("grace") == CUSTOM
        self.demand("amount", "Say how long.", is_needed=is_custom)
        is_staged = cleaned.get("mode") == Mode.STAGED
        self.demand("targets", "Name at least one region.", is_needed=is_staged)
        return cleaned

    @property
    def mode_chosen(self) -> Mode:
        """The mode that is ticked."""
        value = self["mode"].value()
        return Mode(value) if value in MODE_CARDS else Mode.GRACE

    @property
    def wish(self) -> dict[str, Any]:
        """What `services.rotate_key` is asked for; of a valid form only."""
        if self.mode_chosen is not Mode.STAGED:
            return {"mode": self.mode_chosen, "grace_seconds": self.grace_seconds}
        quiet = self.cleaned_data["quiet"]
        return {
            "mode": Mode.STAGED,
            "targets": self.cleaned_data["targets"],
            "quiet_seconds": None if quiet is None else quiet * MINUTE,
        }

    @property
    def deadline_shown(self) -> timedelta:
        """How long until the deadline that is chosen."""
        value = self["deadline"].value()
        return timedelta(seconds=int(value) if value in dict(DEADLINES) else DEFAULT_DEADLINE_SECONDS)

    @property
    def grace_seconds(self) -> int | None:
        """The grace that was asked for; None with another mode, and where nothing that counts was chosen."""
        if self.mode_chosen is not Mode.GRACE:
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
